"""What stands around a message on the wire: whether it is compressed, and its length."""

import zlib
from typing import Final

from slipway.host.request.refusal import RequestRefused, bad_request
from slipway.host.wire.compression import unpack

PREFIX: Final = 5
"""Before each message: a flag, and its length (u32)."""

WINDOW_BITS: Final = {b"deflate": zlib.MAX_WBITS, b"gzip": zlib.MAX_WBITS | 16}
"""The encodings, as zlib numbers them."""

ACCEPTED: Final = b", ".join((b"identity", *WINDOW_BITS))

LEVEL: Final = 1
"""The fastest. zlib's default saves at best 4 % more of numbers, in up to nine times the time."""

SMALLEST, LARGEST = 1024, 256 * 1024
"""Answers that are compressed. A smaller one goes in one packet anyway; a larger one would hold
up every other caller for more than the 8 ms that this one costs."""


def read_size(data: bytes | bytearray, encoding: bytes | None) -> int | None:
    """Return the announced length of a message, None if it has not come yet."""
    if len(data) < PREFIX:
        return None
    if data[0] != 0 and (data[0] != 1 or encoding is None):
        raise bad_request("a compressed message needs 'grpc-encoding'")
    return int.from_bytes(data[1:PREFIX], "big")


def open_envelope(flag: int, data: bytes, encoding: bytes | None, size_max: int) -> bytes:
    """Return a message as it was before it was compressed, if it was."""
    if flag == 0 or encoding is None:
        return data
    try:
        return bytes(unpack(data, encoding, size_max))
    except RequestRefused as refusal:
        if refusal.code == "too_large":
            raise too_large(size_max) from None
        raise bad_request("the message is not what 'grpc-encoding' says") from None


def seal(message: bytes, encoding: bytes | None) -> bytes:
    """Write a message behind its prefix, compressed if that is wished and saves something."""
    if encoding is not None and SMALLEST <= len(message) <= LARGEST:
        packed = zlib.compress(message, LEVEL, WINDOW_BITS[encoding])
        if len(packed) < len(message):
            return b"\x01" + len(packed).to_bytes(4, "big") + packed
    return b"\x00" + len(message).to_bytes(4, "big") + message


def too_large(size_max: int) -> RequestRefused:
    """Make the refusal of a message over the limit, packed or unpacked."""
    return RequestRefused("too_large", f"a message has more than {size_max} bytes")
