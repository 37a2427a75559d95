"""The binary form of tensors.

It is little endian and row-major, without padding; BYTES elements follow their
length (u32). BF16, which numpy does not know, travels as an array of uint16 that holds its bits.
"""

import struct
from typing import Final

import numpy as np

from slipway.bundle.datatypes import DTYPES, Datatype
from slipway.host.request.message import Array

_LENGTH: Final = struct.Struct("<I")


def decode(data: bytes | memoryview, datatype: Datatype, count: int) -> Array:
    """Return `count` values, flat; raise ValueError, in words for a caller, if it does not fit."""
    if datatype == "BYTES":
        return _decode_text(bytes(data), count)
    dtype = DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"shape asks for {count * dtype.itemsize} bytes, got {len(data)}")
    if datatype == "BOOL":
        bits = np.frombuffer(data, np.uint8)
        if (bits > 1).any():
            raise ValueError("a boolean must be one byte, 0 or 1")
        return bits.view(np.bool_)
    return np.frombuffer(data, dtype)


def encode(values: Array, datatype: str) -> bytes:
    """Return the binary form."""
    if datatype != "BYTES":
        return values.tobytes()
    parts: list[bytes] = []
    for value in values.reshape(-1):
        text = value if isinstance(value, bytes) else str(value).encode()
        parts += (_LENGTH.pack(len(text)), text)
    return b"".join(parts)


def _decode_text(data: bytes, count: int) -> Array:
    if count * _LENGTH.size > len(data):  # asked before there is memory for so many
        raise ValueError(f"shape asks for {count} strings, the bytes end before")
    values = np.empty(count, dtype=object)
    position = 0
    for n in range(count):
        start = position + _LENGTH.size
        if start > len(data):
            raise ValueError(f"shape asks for {count} strings, the bytes end before")
        position = start + _LENGTH.unpack_from(data, start - _LENGTH.size)[0]
        if position > len(data):
            raise ValueError("a string's length reaches beyond the tensor's bytes")
        try:
            values[n] = data[start:position].decode()
        except UnicodeDecodeError:
            raise ValueError("a string must be UTF-8") from None
    if position != len(data):
        raise ValueError(f"shape asks for {count} strings, more bytes follow")
    return values
