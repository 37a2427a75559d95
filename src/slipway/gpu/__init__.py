"""GPUs of this machine: which there are, and whose turn it is on them."""
