"""Tensors of every datatype, for the models `types` and `bf16` that answer what they are given."""

from typing import Any

import numpy as np

SHAPE = [3, 2]

TENSORS: dict[str, np.ndarray] = {
    "BOOL": np.array([1, 0, 0, 1, 1, 0], bool),
    "UINT8": np.array([0, 1, 127, 128, 254, 255], np.uint8),
    "UINT16": np.array([0, 1, 2**15, 2**16 - 1, 7, 9], np.uint16),
    "UINT32": np.array([0, 1, 2**31, 2**32 - 1, 7, 9], np.uint32),
    "UINT64": np.array([0, 1, 2**53 + 1, 2**64 - 1, 7, 9], np.uint64),
    "INT8": np.array([0, 1, -1, 127, -128, 9], np.int8),
    "INT16": np.array([0, 1, -1, 2**15 - 1, -(2**15), 9], np.int16),
    "INT32": np.array([0, 1, -1, 2**31 - 1, -(2**31), 9], np.int32),
    "INT64": np.array([0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1], np.int64),
    "FP16": np.array([0, -1.5, 0.1, 65504, 6e-8, 9], np.float16),
    "FP32": np.array([0, -1.5, 0.1, 3.4e38, 1e-45, 9], np.float32),
    "FP64": np.array([0, -1.5, 0.1, 1.7e308, 5e-324, 9], np.float64),
    "BYTES": np.array(["", "a", "Übung", "日本", 'a\t"b"\n', "x" * 3000], object),
}

BF16 = np.array([0, 1, -1.5, 0.25, 2.0**100, 9], np.float32).reshape(SHAPE)
"""Exact in 16 bits."""

ROW = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 64)
"""One row for `mlp`."""


def tensors() -> dict[str, np.ndarray]:
    """Return one tensor per datatype."""
    return {datatype: values.reshape(SHAPE) for datatype, values in TENSORS.items()}


def same(found: np.ndarray, sent: np.ndarray) -> bool:
    """Compare to the bit; text comes back as bytes where a client keeps it so."""
    if sent.dtype == object:
        return found.shape == sent.shape and [_text(x) for x in found.flat] == list(sent.flat)
    return bool(found.shape == sent.shape and found.tobytes() == sent.tobytes())


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
