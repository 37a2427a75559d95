"""Slipway takes a dataset to a live, proven model on your own GPU servers."""

import os

__version__ = "0.2.0"

# ONNX Runtime reports models and machines to its maker from the moment that it is imported
# (Linux too, since 1.29), and reads this no later: so it stands where every process begins.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
