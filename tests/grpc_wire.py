"""A gRPC connection whose client is h2 and whose wire is paper."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events

from slipway.host.answer.call import Loaded, Serving
from slipway.host.answer.core import Core
from slipway.host.guard.caller import Guard, OpenGuard
from slipway.host.observe.metrics import Metrics
from slipway.host.request.body_memory import BodyMemory
from slipway.host.wire.grpc.connection import GrpcConnection
from slipway.host.wire.grpc.health import Health
from slipway.host.wire.grpc.limits import GrpcLimits
from slipway.host.wire.grpc.schema import SERVICE
from slipway.host.wire.grpc.service import Service
from tests.grpc_host import A, PaperEngine, make_contract

LIVE, INFER = f"/{SERVICE}/ServerLive", f"/{SERVICE}/ModelInfer"


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False
        self.aborted = False
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Client:
    """One connection, its h2 client, and the events that came back."""

    def __init__(
        self, guard: Guard | None = None, memory: BodyMemory | None = None, **limits: Any
    ) -> None:
        metrics = Metrics()
        self.core = Core(metrics)
        self.core.ready = True
        self.core.awaited = frozenset()
        self.engine = PaperEngine()
        loaded = Loaded(A, make_contract(x="FP32"), self.engine, metrics.series("m", A))
        self.core.models = {"m": Serving(loaded)}
        self.limits = GrpcLimits(**limits)
        self.service = Service(self.core, guard or OpenGuard(), Health(self.core))
        self.memory = memory or BodyMemory()
        self.members: set[GrpcConnection] = set()
        self.wire = Wire()
        self.side = GrpcConnection(self.service, self.limits, self.members, self.memory)
        self.side.connection_made(self.wire)
        config = h2.config.H2Configuration(
            header_encoding=False, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self.exchange()

    def exchange(self) -> None:
        """Pass on what both sides have to say, until they have nothing more."""
        while data := self.h2.data_to_send():
            self.side.data_received(data)
            self.read()

    def read(self) -> None:
        data, self.wire.written = bytes(self.wire.written), bytearray()
        self.events += self.h2.receive_data(data)

    def begin(self, path: str = LIVE, stream: int | None = None, **headers: str) -> int:
        stream = stream or self.h2.get_next_available_stream_id()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x",
                  "content-type": "application/grpc", **named}  # fmt: skip
        self.h2.send_headers(stream, [(k.encode(), v.encode("latin-1")) for k, v in fields.items()])
        return stream

    def call(self, path: str = LIVE, body: bytes = b"\0\0\0\0\0", **headers: str) -> dict[str, str]:
        """Make a whole call; return its last headers."""
        stream = self.begin(path, **headers)
        self.h2.send_data(stream, body, end_stream=True)
        self.exchange()
        return self.end(stream)

    def end(self, stream: int) -> dict[str, str]:
        """Return the last headers that came on a stream."""
        kinds = (h2.events.ResponseReceived, h2.events.TrailersReceived)
        found: dict[str, str] = {}
        for event in self.events:
            if isinstance(event, kinds) and event.stream_id == stream:
                found = {k.decode(): v.decode() for k, v in event.headers or []}
        return found

    def gone(self) -> int | None:
        """Return the error that the connection was ended with."""
        self.read()
        codes = [e.error_code for e in self.events if isinstance(e, h2.events.ConnectionTerminated)]
        assert not codes or self.wire.closed
        return codes[-1] if codes else None


def on_wire(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test inside an event loop."""

    @functools.wraps(test)
    def run(**given: Any) -> None:
        async def inside() -> None:
            test(**given)

        asyncio.run(inside())

    return run
