"""Remember the heads of requests: the same bytes get the same judgement.

A client that keeps its connection sends one head again and again. llhttp and our limits judge
it once, byte by byte; after that, equal bytes are looked up. What is remembered is only what
leaves nothing open: an HTTP/1.1 POST with its body's length, without chunks, `Expect`,
`Upgrade` or `Connection: close`, short, and with every line ended by CRLF.
"""

from typing import Final

from slipway.host.wire.http.exchange import Head

HEAD_MAX: Final = 2048
"""Longest head that is remembered, in bytes."""

HEADS_MAX: Final = 1024
"""Most heads; all are forgotten when there are more, so a caller who varies them gains nothing."""

END: Final = b"\r\n\r\n"


class CachedHead:
    """A head and the length of the body that follows it."""

    __slots__ = ("head", "length")

    def __init__(self, head: Head, length: int) -> None:
        self.head = head
        self.length = length


class HeadCache:
    """The heads of one listener."""

    def __init__(self) -> None:
        self.known: dict[bytes, CachedHead] = {}

    def find_raw(self, data: bytes) -> bytes:
        """Return the bytes of the head at the start of a message, or b"" if not remembered."""
        end = data.find(END, 0, HEAD_MAX)
        return data[: end + len(END)] if end > 0 and data.startswith(b"POST ") else b""

    def remember(self, raw: bytes, head: Head, header_count: int) -> None:
        """Remember a head that was accepted with its whole request."""
        length = head.headers.get(b"content-length")
        lines = header_count + 2  # the request line and the empty one
        if length is None or any(name in head.headers for name in _OPEN):
            return
        if not raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r") == lines:
            return
        if len(self.known) >= HEADS_MAX:
            self.known.clear()
        self.known[raw] = CachedHead(head, int(length))


_OPEN: Final = (b"transfer-encoding", b"expect", b"content-encoding")
