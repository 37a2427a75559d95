"""The record of a run: what ran, who started it, what it took, and with what result."""
