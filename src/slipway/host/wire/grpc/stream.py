"""One call on its connection: what it brings, and how it is answered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from slipway.host.answer.call import Cancellable
from slipway.host.request.refusal import RequestRefused, bad_request
from slipway.host.wire.grpc import frames
from slipway.host.wire.grpc.envelope import PREFIX, open_envelope, read_size, seal, too_large
from slipway.host.wire.grpc.frames import frame, trailer_block
from slipway.host.wire.grpc.head import CallHead
from slipway.host.wire.grpc.status import GRPC_STATUS, Metadata, Status, error_metadata

ENDING: Final = frames.END_STREAM | frames.END_HEADERS


@dataclass(frozen=True, slots=True)
class Method:
    """How one method is answered."""

    act: Callable[["Stream", bytes], Any]
    """From the call and its message to the response; None if that comes later."""
    many_in: bool = False
    """Whether the client sends any number of messages, each with its response."""


class Carrier(Protocol):
    """What a call needs of its connection."""

    window: int
    """What the client lets all streams together send."""
    stream_window: int
    """What it lets a new stream send."""
    refused: Callable[[str], None]
    now: Callable[[], float]

    @property
    def blocked(self) -> "dict[int, Stream]":
        """Those whose answers wait for room."""

    def send(self, data: bytes) -> None:
        """Write bytes."""

    def ended(self, stream: "Stream") -> None:
        """Forget an answered call."""


class Stream:
    """One call. The faces' methods see its head and its answering half."""

    __slots__ = (
        "_begun", "_buffer", "_connection", "_ending", "_opened_bytes", "begun_at", "blocked_at",
        "closed", "half_closed", "head", "held", "id", "method", "pending", "sent", "window",
        "work",
    )  # fmt: skip

    def __init__(self, connection: Carrier, number: int, head: CallHead, now: float) -> None:
        self._connection = connection
        self.id = number
        self.head = head
        self.method: Method | None = None
        self.window = connection.stream_window
        """What the client lets this stream send."""
        self.begun_at = now
        self.blocked_at: float | None = None
        """Since when the client lets nothing more be sent."""
        self.half_closed = False
        """Whether the client has said everything."""
        self.closed = False
        self.work: Cancellable | None = None
        """Cancelled when the client goes away."""
        self.pending = b""
        """What the client's windows had no room for."""
        self.sent = 0
        """How much of that has been sent since."""
        self.held = 0
        """Bytes counted as held for this call."""
        self._buffer: bytearray | None = None
        self._opened_bytes = 0
        """Of the only message, unpacked: it is held until it is answered."""
        self._begun = False
        self._ending: bytes | None = None

    @property
    def buffered(self) -> int:
        """Bytes that are held: of a message that is not complete, or not answered."""
        return self._opened_bytes + (len(self._buffer) if self._buffer is not None else 0)

    def take(self, data: bytes, ended: bool, size_max: int) -> list[bytes]:
        """Return the messages that these bytes complete; raise RequestRefused on wrong ones."""
        self.half_closed = ended
        encoding = self.head.encoding
        size = read_size(data, encoding) if ended and self._buffer is None else None
        if size is not None and size == len(data) - PREFIX <= size_max:
            message = open_envelope(data[0], data[PREFIX:], encoding, size_max)
            self._opened_bytes = len(message)
            return [message]
        buffer = self._buffer = self._buffer if self._buffer is not None else bytearray()
        buffer += data
        many = self.method is not None and self.method.many_in
        messages = []
        while (size := read_size(buffer, encoding)) is not None:
            if size > size_max:
                raise too_large(size_max)
            end = PREFIX + size
            if not many and len(buffer) > end:
                raise bad_request("the call takes one message, got more")
            if len(buffer) < end or not (many or ended):
                break
            message = bytes(memoryview(buffer)[PREFIX:end])
            messages.append(open_envelope(buffer[0], message, encoding, size_max))
            del buffer[:end]
            if not many:
                self._opened_bytes = len(messages[0])
        if ended and buffer:
            raise bad_request("the call ends within a message")
        return messages

    def answer(self, message: bytes, metadata: Metadata = ()) -> None:
        """Send the only message and the end."""
        self._ending = trailer_block(Status.OK, "", metadata)
        self.write(message)

    def write(self, message: bytes) -> None:
        """Send one message."""
        if self.closed:
            return
        data = seal(message, self.head.answers)
        head = b"" if self._begun else self._start()
        self._begun = True
        room = min(self.window, self._connection.window, frames.FRAME_BYTES)
        if self.pending or len(data) > room:
            self._connection.send(head)
            self.pending += data
            self.pump()
            return
        self.window -= len(data)
        self._connection.window -= len(data)
        parts = (head, frame(frames.DATA, 0, self.id, data), self._end())
        self._connection.send(b"".join(parts))
        self._close_if_ended()

    def finish(self) -> None:
        """End a call that may have had several messages."""
        self._finish(trailer_block(Status.OK))

    def refuse(self, refusal: RequestRefused, version: str | None = None) -> None:
        """End the call with a refusal."""
        self._connection.refused(refusal.code)
        metadata = error_metadata(refusal, version)
        self._finish(trailer_block(GRPC_STATUS[refusal.code], refusal.message, metadata))

    def pump(self) -> None:
        """Send of what is pending as much as the client's windows have room for."""
        connection = self._connection
        while self.sent < len(self.pending):
            room = min(self.window, connection.window, frames.FRAME_BYTES)
            if room <= 0:
                self.blocked_at = self.blocked_at or connection.now()
                connection.blocked[self.id] = self
                return
            data = self.pending[self.sent : self.sent + room]
            self.sent += len(data)
            self.window -= len(data)
            connection.window -= len(data)
            self.blocked_at = None
            connection.send(frame(frames.DATA, 0, self.id, data))
        self.pending, self.sent = b"", 0
        connection.blocked.pop(self.id, None)
        connection.send(self._end())
        self._close_if_ended()

    def drop(self) -> None:
        """Forget the call: nobody waits for it."""
        self.closed = True
        self.pending = b""
        if self.work is not None:
            self.work.cancel()

    def discard(self) -> None:
        """Let go of what has come of a message."""
        self._buffer, self._opened_bytes = None, 0

    def _start(self) -> bytes:
        block = frames.HEAD_BLOCKS[self.head.answers]
        return frame(frames.HEADERS, frames.END_HEADERS, self.id, block)

    def _finish(self, ending: bytes) -> None:
        if self.closed:
            return
        self._ending = ending if self._begun else frames.HEAD_BLOCK + ending
        if not self.pending:
            self._connection.send(self._end())
            self._close_if_ended()

    def _end(self) -> bytes:
        return b"" if self._ending is None else frame(frames.HEADERS, ENDING, self.id, self._ending)

    def _close_if_ended(self) -> None:
        if self._ending is not None:
            self.closed = True
            self._connection.ended(self)
