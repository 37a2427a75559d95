"""Estimate what a host must have free to load a model and run its largest request."""

from typing import Final

PER_MODEL_BYTE: Final = 4
"""Loading peaks at 2.9 times the file (measured at 100 MB): its bytes as read, the weights
parsed from them, and the weights packed for the kernels."""

BASE_BYTES: Final = 64 << 20
"""The runtime itself and a batch's activations; the default model's 1,024 rows took 18 MB."""


def memory_bytes(model_bytes: int, activation_bytes: int = 0) -> int:
    """Return the estimate; `activation_bytes` of a request beyond what the base covers."""
    return BASE_BYTES + PER_MODEL_BYTE * model_bytes + activation_bytes
