"""Rows of tensors of any datatype and rank: in memory, and as one column of an Arrow file.

In memory, rows lie along the first axis of one array; where they differ in shape, an object
array holds one array per row. In Arrow, a row is its shape and its bytes: little endian and
row-major, text with each element after its length (u32), as the Open Inference Protocol's
binary extension has it.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slipway.bundle.datatypes import DTYPES, Datatype

Array = npt.NDArray[Any]

COLUMN = pa.struct([("shape", pa.list_(pa.int64())), ("data", pa.large_binary())])
"""Arrow's type of a column of tensors."""

LENGTH = struct.Struct("<I")


def stack(rows: Sequence[Array]) -> Array:
    """Put rows into one array; where their shapes differ, into an object array of arrays."""
    if len({row.shape for row in rows}) == 1:
        return np.stack(rows)
    apart = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        apart[i] = row
    return apart


def is_ragged(values: Array) -> bool:
    """Tell whether rows are held apart because their shapes differ."""
    return values.dtype == object and values.ndim == 1 and isinstance(values[0], np.ndarray)


def row_of(values: Array, i: int) -> Array:
    """Return one row as an array, a single value too."""
    row: Array = values[i] if is_ragged(values) else values[i, ...]
    return row


def encode(values: Array, datatype: Datatype) -> pa.Array:
    """Write rows as a column; the same rows give the same bytes."""
    rows = [np.asarray(row, DTYPES[datatype]) for row in values]
    shapes = pa.array([list(row.shape) for row in rows], COLUMN.field("shape").type)
    data = pa.array([to_bytes(row) for row in rows], COLUMN.field("data").type)
    return pa.StructArray.from_arrays([shapes, data], fields=list(COLUMN))


def decode(column: pa.ChunkedArray, datatype: Datatype) -> Array:
    """Read rows from a column; raise ValueError for anything but whole tensors."""
    if column.type != COLUMN or column.null_count:
        raise ValueError(f"expected tensors without nulls, got {column.type}")
    cells = column.combine_chunks()
    shapes, data = (cells.field(name).to_pylist() for name in ("shape", "data"))
    if (read := _read_at_once(shapes, data, datatype)) is not None:
        return read
    return stack([from_bytes(*row, datatype) for row in zip(data, shapes, strict=True)])


def _read_at_once(
    shapes: list[list[int] | None], data: list[bytes | None], datatype: Datatype
) -> Array | None:
    """Read numbers of one shape; None for others.

    In plain Python: pyarrow's kernels and its way to numpy bring `pyarrow.compute` and pandas,
    which take a host another 40 MiB.
    """
    shape, joined = shapes[0] if shapes else None, [row for row in data if row is not None]
    if datatype == "BYTES" or shape is None or None in shape or len(joined) != len(data):
        return None
    size = math.prod(shape) * DTYPES[datatype].itemsize
    if any(other != shape for other in shapes) or any(len(row) != size for row in joined):
        return None
    return from_bytes(b"".join(joined), [len(joined), *shape], datatype)


def text_bytes(values: Sequence[str]) -> bytes:
    """Write strings, each after its length."""
    encoded = [value.encode() for value in values]
    return b"".join(part for text in encoded for part in (LENGTH.pack(len(text)), text))


def to_bytes(row: Array) -> bytes:
    """Write a tensor as the protocol's binary extension has it."""
    if row.dtype == object:
        return text_bytes(row.reshape(-1).tolist())
    return row.astype(row.dtype.newbyteorder("<")).tobytes()


def from_bytes(data: bytes | None, shape: list[int] | None, datatype: Datatype) -> Array:
    """Read a tensor; raise ValueError for anything but the bytes of a whole one."""
    if shape is None or data is None or any(dim is None or dim < 0 for dim in shape):
        raise ValueError("a tensor lacks its shape or its data")
    size = math.prod(shape)
    if datatype == "BYTES":
        return _text(data, size).reshape(shape)
    dtype = DTYPES[datatype].newbyteorder("<")
    if len(data) != size * dtype.itemsize:
        raise ValueError(f"a tensor of shape {shape} has {len(data)} bytes")
    return np.frombuffer(data, dtype).astype(DTYPES[datatype]).reshape(shape)


def _text(data: bytes, size: int) -> Array:
    if size * LENGTH.size > len(data):
        raise ValueError(f"{len(data)} bytes are too few for {size} texts")
    values = np.empty(size, object)
    position = 0
    for i in range(size):
        if position + LENGTH.size > len(data):
            raise ValueError("text is cut short")
        (length,) = LENGTH.unpack_from(data, position)
        position += LENGTH.size
        values[i] = data[position : position + length].decode()
        position += length
    if position != len(data):
        raise ValueError("text has another length than its parts")
    return values
