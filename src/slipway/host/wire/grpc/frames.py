"""The frames of HTTP/2 (RFC 9113) and the header blocks that this host writes.

Only what gRPC needs of a server. Headers are written as literals that change no table, so a
response is the same bytes on every connection and can be made once.
"""

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote_from_bytes

from slipway.host.wire.grpc.envelope import ACCEPTED, WINDOW_BITS
from slipway.host.wire.grpc.status import Metadata, Status

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD: Final = struct.Struct(">HBBBI")
"""Length in two parts, kind, flags, stream."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 0x1, 0x1, 0x4, 0x8, 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED = 0, 1, 2, 3, 5
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 6, 7, 8, 9, 11

MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_HEADERS = 3, 4, 5, 6
"""Settings."""

FRAME_BYTES: Final = 16_384
"""The largest frame that everyone takes, and that is taken here."""

WINDOW: Final = 65_535
"""What may be sent before anyone says otherwise."""

WINDOW_MAX: Final = 2**31 - 1

CONTENT_TYPE: Final = (b"content-type", b"application/grpc")
OK_200: Final = b"\x88"
"""`:status: 200` in the static table."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write one frame."""
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """Write the settings of this side."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *item) for item in values.items()))


def window_update(stream: int, size: int) -> bytes:
    """Let the other side send more."""
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def reset(stream: int, error: int) -> bytes:
    """End a stream."""
    return frame(RST_STREAM, 0, stream, error.to_bytes(4, "big"))


def go_away(last: int, error: int) -> bytes:
    """Take no streams after the last."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, error))


def literal(name: bytes, value: bytes) -> bytes:
    """Write a header that enters no table."""
    return b"\x00" + _text(name) + _text(value)


@lru_cache(maxsize=256)
def trailer_block(status: Status, message: str = "", metadata: Metadata = ()) -> bytes:
    """Write the end of a response."""
    parts = [literal(b"grpc-status", b"%d" % status)]
    if message:
        safe = bytes(range(0x20, 0x7F)).replace(b"%", b"").decode()
        text = quote_from_bytes(message.encode(), safe)
        parts.append(literal(b"grpc-message", text.encode()))
    parts += [literal(name.encode(), value.encode()) for name, value in metadata]
    return b"".join(parts)


def _text(value: bytes) -> bytes:
    """Write a string after its length, which has a prefix of 7 bits."""
    if (size := len(value)) < 127:
        return bytes((size,)) + value
    size -= 127
    length = b"\x7f"
    while size >= 128:
        length += bytes((size & 127 | 128,))
        size >>= 7
    return length + bytes((size,)) + value


HEAD_BLOCK: Final = b"".join(
    (OK_200, literal(*CONTENT_TYPE), literal(b"grpc-accept-encoding", ACCEPTED))
)
"""What every response begins with."""

HEAD_BLOCKS: Final[Mapping[bytes | None, bytes]] = {
    None: HEAD_BLOCK,
    **{name: HEAD_BLOCK + literal(b"grpc-encoding", name) for name in WINDOW_BITS},
}
"""And where its messages may be compressed."""
