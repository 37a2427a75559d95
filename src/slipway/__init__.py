"""Slipway takes a dataset to a live, proven model on your own GPU servers."""

__version__ = "0.1.0"
