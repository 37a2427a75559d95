"""What this project no longer needs, told from what it does, and cleared."""
