"""What a call begins with: its header block, read, judged and remembered.

A client's later calls differ in nothing or in their timeout, and their blocks are then a few
bytes that point into the connection's table. What they mean is kept until the table changes.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import hpack
from hpack.table import HeaderTable

from slipway.host.guard.caller import Caller, Guard
from slipway.host.request.refusal import RequestRefused, bad_request
from slipway.host.wire.grpc.envelope import ACCEPTED, WINDOW_BITS

READ: Final = frozenset(
    {
        b":method", b":path", b"authorization", b"content-type", b"grpc-accept-encoding",
        b"grpc-encoding", b"grpc-timeout", b"slipway-key", b"traceparent", b"tracestate",
    }
)  # fmt: skip
"""The headers that mean something here; each may come once."""

TYPES: Final = (b"application/grpc", b"application/grpc+proto")

UNITS_S: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

KEPT: Final = 64
"""Different blocks of one connection that are remembered."""

SIZE_FACTOR: Final = 4
"""Headers of up to so many times the limit are read, to refuse their call alone; what has more
ends the connection."""

OVERHEAD: Final = 32
"""What each header counts beside its bytes (RFC 9113, 6.5.2)."""

KEPT_S: Final = 10.0
"""A caller is identified again after a while: what it may do can change."""

NOBODY: Final = Caller("", scopes=frozenset())


@dataclass(frozen=True, slots=True)
class CallHead:
    """What the headers of a call say."""

    path: str
    caller: Caller
    timeout_s: float | None
    key: str | None
    trace: dict[bytes, bytes] | None
    """The headers, where they ask for a trace."""
    encoding: bytes | None
    """How its messages may be compressed."""
    answers: bytes | None
    """How those of the answer may be: the same way, if the client takes it."""
    refusal: RequestRefused | None
    """Why the call is refused, whatever it asks for."""
    generation: int
    """The guard's, when the caller was identified."""
    read_at: float

    def permit(self, scope: str, model: str | None = None) -> None:
        """Raise RequestRefused unless the caller may do this."""
        if self.refusal:  # a new one: this head is kept, and with it would be all these frames
            raise RequestRefused(self.refusal.code, self.refusal.message)
        self.caller.permit(scope, model)


class _Table(HeaderTable):
    """Counts its changes."""

    changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)


class HeadReader:
    """Reads the header blocks of one connection, in their order."""

    def __init__(self, guard: Guard, size_max: int) -> None:
        self._guard = guard
        self._size_max = size_max
        self._decoder = hpack.Decoder(size_max * SIZE_FACTOR)
        self._table = self._decoder.header_table = _Table()
        self._kept: dict[bytes, CallHead] = {}

    def read(self, block: bytes) -> CallHead:
        """Return what a block says; raise ValueError if it cannot be decoded.

        The table has then lost its meaning, and the connection with it.
        """
        kept = self._kept.get(block)
        if kept and self._holds(kept):
            return kept
        changes = self._table.changes
        head = read_head(self.decode(block), self._guard, self._size_max)
        resized = block[:1] and block[0] & 0xE0 == 0x20
        if self._table.changes != changes or resized or len(self._kept) >= KEPT:
            self._kept.clear()
        else:
            self._kept[block] = head
        return head

    def _holds(self, head: CallHead) -> bool:
        same = head.generation == self._guard.generation
        return same and time.monotonic() - head.read_at < KEPT_S

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers of a block, which also keeps the table right."""
        try:
            return [(bytes(h[0]), bytes(h[1])) for h in self._decoder.decode(block, raw=True)]
        except Exception as error:  # the library promises its own errors only
            raise ValueError("the header block cannot be decoded") from error


def read_head(headers: Sequence[tuple[bytes, bytes]], guard: Guard, size_max: int) -> CallHead:
    """Judge headers; nothing in them raises, because other calls share the connection."""
    found: dict[bytes, bytes] = {}
    caller, refusal, timeout_s = NOBODY, None, None
    encoding, answers = None, None
    try:
        if sum(len(name) + len(value) + OVERHEAD for name, value in headers) > size_max:
            raise RequestRefused("headers_too_large", f"the headers have over {size_max} bytes")
        for name, value in headers:
            if name in READ:
                if name in found:
                    raise bad_request(f"header '{name.decode()}' is given twice")
                found[name] = value
        _check(found)
        timeout_s = _timeout(found.get(b"grpc-timeout"))
        caller = guard.identify(found.get(b"authorization"))
        encoding, answers = _encodings(found)  # nothing that a stranger sends is unpacked
    except RequestRefused as error:
        refusal = error.with_traceback(None)  # its frames lead to the connection that keeps it
    key = found.get(b"slipway-key")
    return CallHead(
        path=found.get(b":path", b"").decode("latin-1"),
        caller=caller,
        timeout_s=timeout_s,
        key=key.decode("latin-1") if key is not None else None,
        trace=found if b"traceparent" in found else None,
        encoding=encoding,
        answers=answers,
        refusal=refusal,
        generation=guard.generation,
        read_at=time.monotonic(),
    )


def _check(found: dict[bytes, bytes]) -> None:
    if found.get(b":method") != b"POST":
        raise bad_request("a call is a POST")
    if found.get(b"content-type") not in TYPES:
        raise RequestRefused("unsupported_media_type", "send application/grpc")
    if found.get(b"grpc-encoding", b"identity") not in (b"identity", *WINDOW_BITS):
        raise RequestRefused("method_not_allowed", f"messages may be {ACCEPTED.decode()}")


def _encodings(found: Mapping[bytes, bytes]) -> tuple[bytes | None, bytes | None]:
    """Return how messages come compressed, and how they may go: as they came, as grpc-go does it.

    Who sends them plain has not asked for the work.
    """
    encoding = found.get(b"grpc-encoding")
    if encoding not in WINDOW_BITS:
        return None, None
    taken = found.get(b"grpc-accept-encoding", b"").replace(b" ", b"").split(b",")
    return encoding, encoding if encoding in taken else None


def _timeout(value: bytes | None) -> float | None:
    if value is None:
        return None
    digits, unit = value[:-1], value[-1:].decode("latin-1")
    if not 0 < len(digits) <= 8 or not digits.isdigit() or unit not in UNITS_S:
        raise bad_request("'grpc-timeout' must be up to 8 digits and a unit")
    return int(digits) * UNITS_S[unit]
