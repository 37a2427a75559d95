"""One HTTP/2 connection: from its bytes to calls, and what no client may do to the others.

Written for this host because a library's server (grpc.aio 1.85) ends all service when a path is
not UTF-8, holds a place for a stranger's unfinished message, and spends more than twice as much
time on an empty call as this face and the core together on a real one.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from slipway.host.request.body_memory import BodyAccount, BodyMemory
from slipway.host.request.refusal import RequestRefused
from slipway.host.wire.grpc import frames
from slipway.host.wire.grpc.frames import frame, go_away, reset, window_update
from slipway.host.wire.grpc.head import HeadReader
from slipway.host.wire.grpc.limits import GrpcLimits
from slipway.host.wire.grpc.reader import Broken, Reader
from slipway.host.wire.grpc.service import Service
from slipway.host.wire.grpc.stream import Stream

log = logging.getLogger(__name__)

ROOM: Final = 2**30
"""What a client may send on one connection before more is granted; memory is bounded by what
is buffered, so that calls cannot wait for each other's window."""

GRANT: Final = 2**24

SMALL: Final = 1024
"""A grant of fewer bytes, while answers wait for it, costs more to use than to send."""


class GrpcConnection(asyncio.Protocol):
    """One client and its calls."""

    def __init__(
        self,
        service: Service,
        limits: GrpcLimits,
        members: set["GrpcConnection"],
        memory: BodyMemory,
    ) -> None:
        self._service = service
        self._limits = limits
        self._account = BodyAccount(memory)
        self._members = members
        """The server's connections, which this one joins."""
        self.refused = service.refused
        """Hears the code of every refusal."""
        self._heads = HeadReader(service.guard, limits.metadata_bytes)
        self._reader = Reader(limits)
        self._last = 0
        self._calm = float(limits.burst)
        self._calm_at = 0.0
        self._heard_at = 0.0
        self._pinged = False
        self._paused_at: float | None = None
        self._draining = False
        self._transport: Any = None
        self.now: Callable[[], float] = asyncio.get_running_loop().time
        self.streams: dict[int, Stream] = {}
        self.blocked: dict[int, Stream] = {}
        """Those whose answers wait for room."""
        self.window = frames.WINDOW
        """What the client lets all streams together send."""
        self.stream_window = frames.WINDOW
        """What it lets a new stream send."""

    # --- what asyncio calls

    def connection_made(self, transport: Any) -> None:
        """Say what is taken here."""
        self._transport = transport
        self._heard_at = self._calm_at = self.now()
        if len(self._members) >= self._limits.connections:
            transport.abort()
            return
        self._members.add(self)
        limits = self._limits
        values = {
            frames.MAX_STREAMS: limits.streams,
            frames.INITIAL_WINDOW: limits.message_bytes + frames.FRAME_BYTES,
            frames.MAX_HEADERS: limits.metadata_bytes,
        }
        self.send(frames.settings(values) + window_update(0, ROOM))

    def connection_lost(self, error: Exception | None) -> None:
        """Give up every call: nobody is there for the answers."""
        self._members.discard(self)
        for stream in list(self.streams.values()):
            self._drop(stream)

    def data_received(self, data: bytes) -> None:
        """Take what came; anything wrong with one call concerns that call only."""
        if self._transport.is_closing():
            return
        self._heard_at = self.now()
        self._pinged = False
        try:
            self._act(data)
        except Broken as broken:
            self.close(broken.error)
        except Exception:
            log.exception("a connection failed")
            self.close(frames.INTERNAL_ERROR)

    def pause_writing(self) -> None:
        """Take no more from a client that does not read."""
        self._paused_at = self.now()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._paused_at = None
        self._transport.resume_reading()

    # --- what the server and the streams call

    def send(self, data: bytes) -> None:
        """Write bytes."""
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def ended(self, stream: Stream) -> None:
        """Forget an answered call; the client need not send the rest of it."""
        if not stream.half_closed:
            self.send(reset(stream.id, frames.NO_ERROR))
        self._forget(stream)

    def drain(self) -> None:
        """Take no new calls, and close when the last one is answered."""
        if not self._draining:
            self._draining = True
            self.send(go_away(self._last, frames.NO_ERROR))
        self._close_if_done()

    def close(self, error: int = frames.NO_ERROR) -> None:
        """End the connection at once."""
        self.send(go_away(self._last, error))
        for stream in list(self.streams.values()):
            self._drop(stream)
        self._transport.close()

    def abort(self) -> None:
        """End it without waiting for the client to take what was written."""
        self._transport.abort()

    def expire(self, now: float) -> None:
        """Hold the client to its time limits."""
        limits = self._limits
        silent_s = now - self._heard_at
        paused_s = now - self._paused_at if self._paused_at is not None else 0.0
        if paused_s > limits.write_s or (
            not self._reader.greeted and silent_s > limits.handshake_s
        ):
            self.abort()
        elif not self.streams and silent_s > limits.idle_s:
            self.close()
        elif silent_s > limits.ping_s and not self._pinged:
            self._pinged = True
            self.send(frame(frames.PING, 0, 0, bytes(8)))
        elif self._pinged and silent_s > limits.ping_s + limits.ping_timeout_s:
            self.abort()
        for stream in list(self.streams.values()):
            self._expire_stream(stream, now)

    # --- frames

    def _act(self, data: bytes) -> None:
        for kind, flags, number, payload in self._reader.read(data):
            if act := FRAMES.get(kind):
                act(self, flags, number, payload)
            elif kind == frames.PUSH_PROMISE:
                raise Broken
            else:
                self._strike()

    def _headers(self, flags: int, number: int, block: bytes) -> None:
        """Begin a call, or end one; even headers of no use change the table."""
        if number % 2 == 0:
            raise Broken
        ended = bool(flags & frames.END_STREAM)
        try:
            if number > self._last:
                self._begin(number, block, ended)
                return
            self._heads.decode(block)
        except ValueError:
            raise Broken(frames.COMPRESSION_ERROR) from None
        if not ended:
            raise Broken
        if stream := self.streams.get(number):
            if stream.half_closed:
                raise Broken(frames.STREAM_CLOSED)
            self._take(stream, b"", True)

    def _begin(self, number: int, block: bytes, ended: bool) -> None:
        self._last = number
        head = self._heads.read(block)
        if self._draining or len(self.streams) >= self._limits.streams:
            self._strike()
            self.send(reset(number, frames.REFUSED_STREAM))
            return
        stream = self.streams[number] = Stream(self, number, head, self._heard_at)
        stream.half_closed = ended
        self._service.begin(stream)
        if ended and not stream.closed:
            self._take(stream, b"", True)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        if self._reader.taken >= GRANT:
            self.send(window_update(0, self._reader.taken))
            self._reader.taken = 0
        stream = self.streams.get(number)
        ended = bool(flags & frames.END_STREAM)
        if stream is None:
            if number > self._last or number % 2 == 0:
                raise Broken
            return
        if stream.half_closed:
            raise Broken(frames.STREAM_CLOSED)
        if not payload and not ended:
            self._strike()
        self._take(stream, payload, ended)

    def _take(self, stream: Stream, data: bytes, ended: bool) -> None:
        """Hand a call its bytes, counted against what the whole server may hold."""
        try:
            messages = stream.take(data, ended, self._limits.message_bytes)
            self._hold(stream)
        except RequestRefused as refusal:
            stream.refuse(refusal)
            return
        method = stream.method
        if method is not None and method.many_in and data and not ended:
            self.send(window_update(stream.id, len(data)))
        self._service.take(stream, messages, ended)

    def _reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4 or number > self._last:
            raise Broken
        stream = self.streams.get(number)
        if stream is None or self._heard_at - stream.begun_at < self._limits.early_s:
            self._strike()
        if stream is not None:
            self._drop(stream)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) % 6:
            raise Broken(frames.FRAME_SIZE_ERROR)
        self._strike()
        if flags & frames.ACK:
            return
        for key, value in struct.iter_unpack(">HI", payload):
            if key == frames.INITIAL_WINDOW:
                self._resize(value)
        self.send(frame(frames.SETTINGS, frames.ACK, 0))

    def _resize(self, value: int) -> None:
        if value > frames.WINDOW_MAX:
            raise Broken(frames.FLOW_CONTROL_ERROR)
        change, self.stream_window = value - self.stream_window, value
        for stream in list(self.streams.values()):
            stream.window += change
            if stream.pending:
                stream.pump()

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 8 or number:
            raise Broken(frames.FRAME_SIZE_ERROR)
        if not flags & frames.ACK:
            self._strike()
            self.send(frame(frames.PING, frames.ACK, 0, payload))

    def _go_away(self, flags: int, number: int, payload: bytes) -> None:
        self._draining = True
        self._close_if_done()

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        size = int.from_bytes(payload, "big") & frames.WINDOW_MAX
        if len(payload) != 4 or not size:
            raise Broken
        if self.blocked and size < SMALL:
            self._strike()
        if number == 0:
            self.window += size
            if self.window > frames.WINDOW_MAX:
                raise Broken(frames.FLOW_CONTROL_ERROR)
            for stream in list(self.blocked.values()):
                stream.pump()
        elif (granted := self.streams.get(number)) is not None:
            granted.window += size
            if granted.window > frames.WINDOW_MAX:
                raise Broken(frames.FLOW_CONTROL_ERROR)
            if granted.pending:
                granted.pump()

    # --- the rest

    def _strike(self) -> None:
        """Count what a client does seldom; raise Broken for one that does nothing else.

        A stream that is opened and reset at once costs us more than the client (rapid reset).
        """
        passed_s = self._heard_at - self._calm_at
        self._calm_at = self._heard_at
        self._calm = min(self._limits.burst, self._calm + passed_s * self._limits.burst) - 1
        if self._calm < 0:
            raise Broken(frames.ENHANCE_YOUR_CALM)

    def _expire_stream(self, stream: Stream, now: float) -> None:
        limits = self._limits
        if not stream.half_closed and now - stream.begun_at > limits.body_s:
            if stream.method is None or not stream.method.many_in:
                refusal = RequestRefused("client_too_slow", "the message did not come in time")
                stream.refuse(refusal)
        elif stream.blocked_at is not None and now - stream.blocked_at > limits.write_s:
            self.send(reset(stream.id, frames.CANCEL))
            self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        stream.drop()
        self._forget(stream)

    def _hold(self, stream: Stream) -> None:
        """Count what a call holds now; raise RequestRefused where no room is left for it."""
        change = stream.buffered - stream.held
        if change > 0:
            self._account.take(change)
        elif change < 0:
            self._account.give_back(-change)
        stream.held += change

    def _forget(self, stream: Stream) -> None:
        stream.discard()
        self._hold(stream)
        self.streams.pop(stream.id, None)
        self.blocked.pop(stream.id, None)
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._draining and not self.streams:
            self._transport.close()


FRAMES: Final[Mapping[int, Callable[[GrpcConnection, int, int, bytes], None]]] = {
    frames.DATA: GrpcConnection._data,
    frames.HEADERS: GrpcConnection._headers,
    frames.RST_STREAM: GrpcConnection._reset,
    frames.SETTINGS: GrpcConnection._settings,
    frames.PING: GrpcConnection._ping,
    frames.GOAWAY: GrpcConnection._go_away,
    frames.WINDOW_UPDATE: GrpcConnection._window_update,
}
"""What is done about each kind of frame. The class's own: bound, they would keep theirs."""
