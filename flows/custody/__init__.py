"""What this project holds, looked through for damage, and mended from what is still whole."""
