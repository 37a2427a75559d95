"""What this project holds, kept elsewhere and brought back: snapshots of objects by digest."""
