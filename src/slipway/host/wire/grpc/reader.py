"""From the bytes of a connection to whole frames; headers come in one piece, without padding."""

from collections.abc import Iterator

from slipway.host.wire.grpc import frames
from slipway.host.wire.grpc.frames import HEAD, PREFACE
from slipway.host.wire.grpc.head import SIZE_FACTOR
from slipway.host.wire.grpc.limits import GrpcLimits

PRIORITY_BYTES = 5
"""In front of the headers, where a frame carries a priority."""

Frame = tuple[int, int, int, bytes]
"""Kind, flags, stream and payload."""


class Broken(Exception):
    """End the connection: the client does not keep to the protocol, or to measure."""

    def __init__(self, error: int = frames.PROTOCOL_ERROR) -> None:
        self.error = error
        super().__init__()


class Reader:
    """What has come of a connection and is no whole frame yet."""

    def __init__(self, limits: GrpcLimits) -> None:
        self._limits = limits
        self._rest = b""
        self._block: tuple[int, int, bytearray, int] | None = None
        """Stream, flags, headers so far and their frames, until the headers are complete."""
        self.greeted = False
        """Whether the client has said that it speaks HTTP/2."""
        self.taken = 0
        """Bytes that count against the connection's window, since the last grant."""

    def read(self, data: bytes) -> Iterator[Frame]:
        """Return the frames that these bytes complete; raise Broken where they are none."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        position = 0 if self.greeted else self._greet(data)
        size = len(data)
        while self.greeted and size - position >= HEAD.size:
            high, low, kind, flags, stream = HEAD.unpack_from(data, position)
            length = high << 8 | low
            if length > frames.FRAME_BYTES:
                raise Broken(frames.FRAME_SIZE_ERROR)
            start = position + HEAD.size
            if start + length > size:
                break
            position = start + length
            payload = data[start:position]
            if kind == frames.DATA and self._block is None:
                self.taken += length
                if flags & frames.PADDED:
                    payload = _unpad(payload)
                yield kind, flags, stream & frames.WINDOW_MAX, payload
            elif (
                found := self._frame(kind, flags, stream & frames.WINDOW_MAX, payload)
            ) is not None:
                yield found
        self._rest = data[position:]

    def _greet(self, data: bytes) -> int:
        if not PREFACE.startswith(data[: len(PREFACE)]):
            raise Broken
        self.greeted = len(data) >= len(PREFACE)
        return len(PREFACE) if self.greeted else 0

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> Frame | None:
        """Return a frame, None for headers that are to be continued."""
        if kind == frames.HEADERS and self._block is None:
            if flags & frames.PADDED:
                payload = _unpad(payload)
            if flags & frames.PRIORITISED:
                payload = payload[PRIORITY_BYTES:]
            if flags & frames.END_HEADERS:
                return kind, flags, stream, payload
            self._block = (stream, flags, bytearray(payload), 1)
            return None
        if kind == frames.CONTINUATION:
            return self._continue(flags, stream, payload)
        if self._block is not None:
            raise Broken
        return kind, flags, stream, payload

    def _continue(self, flags: int, stream: int, payload: bytes) -> Frame | None:
        if self._block is None or self._block[0] != stream:
            raise Broken
        _, first, block, count = self._block
        block += payload
        limits = self._limits
        if len(block) > limits.metadata_bytes * SIZE_FACTOR or count > limits.continuations:
            raise Broken(frames.ENHANCE_YOUR_CALM)
        self._block = (stream, first, block, count + 1)
        if not flags & frames.END_HEADERS:
            return None
        self._block = None
        return frames.HEADERS, first, stream, bytes(block)


def _unpad(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise Broken
    return payload[1 : len(payload) - payload[0]]
