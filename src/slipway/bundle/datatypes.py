"""The datatypes of tensors: one table of their three names.

    Open Inference Protocol    numpy, in memory    ONNX Runtime

BF16, which numpy lacks, is held as uint16 with the same bits; BYTES is text, an object array
of str.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
]
"""The 13 datatypes of the Open Inference Protocol V2, and BF16, which its binary extension adds."""

DTYPES: Final[Mapping[Datatype, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BF16": np.dtype(np.uint16),
    "BYTES": np.dtype(object),
}
"""What an array of each datatype is in memory."""

FLOATS: Final[frozenset[Datatype]] = frozenset({"FP16", "FP32", "FP64", "BF16"})
"""Datatypes whose values are compared within a tolerance, and may fail to be finite."""

ORT_TYPES: Final[Mapping[str, Datatype]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "BYTES",
}
"""ONNX Runtime's names."""

ONNX_BFLOAT16: Final = 16
"""`onnx.TensorProto.BFLOAT16`, by which ONNX Runtime is told what uint16 holds."""


def as_numbers(values: np.ndarray[Any, Any], datatype: str) -> np.ndarray[Any, Any]:
    """Return the numbers that a tensor stands for, in the narrowest form that numpy counts in."""
    return bf16_to_float(values) if datatype == "BF16" else values


def bf16_to_float(bits: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the numbers that BF16 bits stand for: the upper half of an FP32's."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def float_to_bf16(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return the nearest BF16 bits, ties to even; NaN stays NaN, what is too large is infinite."""
    with np.errstate(over="ignore"):
        wide = np.ascontiguousarray(values, np.float32)
    bits = wide.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(wide), np.uint16(0x7FC0), rounded)
