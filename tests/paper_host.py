"""A host whose models answer what they are given: real wire, core and engines, no ONNX Runtime.

`PaperHost` is fed bytes without a socket; `SocketHost` listens on real ports, in a thread.
"""

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import uvloop

from slipway.bundle.contract import Contract
from slipway.host.answer.call import Loaded, Serving
from slipway.host.answer.core import Core
from slipway.host.engine.checks import Checked, make_admission
from slipway.host.engine.engine import Batching, Engine, Shapes
from slipway.host.guard.caller import Guard, OpenGuard
from slipway.host.observe.metrics import Metrics
from slipway.host.request.body_memory import BodyMemory
from slipway.host.request.message import Array
from slipway.host.wire.grpc.server import GrpcServer
from slipway.host.wire.http.connection import Connection, Listener
from slipway.host.wire.http.exchange import Limits
from slipway.host.wire.http.rest import Rest
from tests.support.contracts import echo_contract
from tests.support.pace import limit

VERSION = "a" * 64

RANDOM_ID = re.compile(rb'"request_id":"[0-9a-f]{16}"')


class EchoRunner:
    """Answers each input under its own name, `y_` before it."""

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        return {f"y_{name}": values for name, values in inputs.items()}

    run_alone = run

    def close(self) -> None:
        """Keep nothing."""


make_contract = echo_contract


class Parts:
    """What both hosts are made of."""

    def __init__(
        self, guard: Guard | None, limits: Limits | None, memory: BodyMemory | None = None
    ) -> None:
        self.memory = memory or BodyMemory()
        self.metrics = Metrics()
        self.core = Core(self.metrics)
        self.core.ready = True
        self.core.awaited = frozenset()
        self.rest = Rest(self.core, self.metrics.render, guard, limits)
        self.refused: list[str] = []
        self.listener = Listener(
            self.rest.handle, limits or Limits(), self.refused.append, memory=self.memory
        )

    def load(self, contract: Contract, version: str = VERSION) -> Loaded:
        """Serve a model that answers what it is given."""
        series = self.metrics.series(contract.model, version)
        runner = Checked(EchoRunner(), contract)
        engine = Engine(
            runner, None, Batching(), series, make_admission(contract), Shapes.of(contract)
        )
        loaded = Loaded(version, contract, engine, series)
        self.core.models = {**self.core.models, contract.model: Serving(loaded)}
        return loaded

    def forget(self) -> None:
        """Be as a fresh host: no head and no template is remembered."""
        self.listener.head_cache.known.clear()
        for serving in self.core.models.values():
            for loaded in serving.versions:
                loaded.templates.clear()


class PaperTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.ended = True

    abort = write_eof = close

    def is_closing(self) -> bool:
        return self.ended

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    resume_reading = pause_reading


class PaperHost(Parts):
    """A host without sockets, on a loop of its own that runs only while it is asked."""

    def __init__(
        self, *contracts: Contract, guard: Guard | None = None, limits: Limits | None = None
    ) -> None:
        super().__init__(guard, limits)
        self.loop = asyncio.new_event_loop()
        for contract in contracts:
            self.load(contract)

    def talk(self, *chunks: bytes) -> tuple[bytes, bool]:
        """Send chunks on a new connection; return all that came back, and whether it was closed."""

        async def run() -> tuple[bytes, bool]:
            connection, transport = Connection(self.listener), PaperTransport()
            connection.connection_made(transport)
            for chunk in chunks:
                connection.data_received(chunk)
                await self._settle(connection)
            ended = transport.ended
            connection.connection_lost(None)
            return RANDOM_ID.sub(b'"request_id":"%b"' % (b"0" * 16), transport.written), ended

        return self.loop.run_until_complete(run())

    async def _settle(self, connection: Connection) -> None:
        """Let the engines run and what was not parsed yet be parsed."""
        for _ in range(3):
            await asyncio.sleep(0)
        while self.core.in_flight or connection._unfed:
            await asyncio.sleep(0)

    def ask(
        self, body: bytes, header_length: int | None = None, path: str = "/v2/models/m/infer",
        headers: Iterable[str] = (), method: str = "POST",
    ) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
        """Send one request; return status, headers in lower case, and body."""
        raw, _ = self.talk(request(body, header_length, path, headers, method))
        return read_response(raw)

    def close(self) -> None:
        self.loop.close()


def request(
    body: bytes, header_length: int | None = None, path: str = "/v2/models/m/infer",
    headers: Iterable[str] = (), method: str = "POST",
) -> bytes:  # fmt: skip
    """Return one request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: a", *headers, f"Content-Length: {len(body)}"]
    if header_length is not None:
        lines.append(f"Inference-Header-Content-Length: {header_length}")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def read_response(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Take one whole response apart."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert len(body) == int(headers["content-length"]), raw
    return int(lines[0].split()[1]), headers, body


class SocketHost(Parts):
    """A host on real ports, HTTP and gRPC, in a thread with a loop as the host's own."""

    def __init__(
        self,
        *contracts: Contract,
        guard: Guard | None = None,
        limits: Limits | None = None,
        memory: BodyMemory | None = None,
    ) -> None:
        super().__init__(guard, limits, memory)
        self.port = self.grpc_port = 0
        self.loop = uvloop.new_event_loop()
        self.problems: list[str] = []
        """What the loop met that nobody handled."""
        self.loop.set_exception_handler(lambda _, what: self.problems.append(str(what)))
        self._thread = threading.Thread(target=self.loop.run_forever, name="host")
        self._thread.start()
        self.do(self._start(contracts, guard))

    async def _start(self, contracts: Iterable[Contract], guard: Guard | None) -> None:
        for contract in contracts:
            self.load(contract)
        self._server = await self.loop.create_server(
            lambda: Connection(self.listener), "127.0.0.1", 0
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._grpc = GrpcServer(self.core, guard or OpenGuard(), memory=self.memory)
        self.grpc_port = await self._grpc.start("127.0.0.1", 0)
        self._expire()

    def _expire(self) -> None:
        self.listener.expire(self.loop.time())
        self.loop.call_later(1, self._expire)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the host's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def call(self, act: Callable[[], Any]) -> Any:
        """Call a function in the host's loop."""

        async def run() -> Any:
            return act()

        return self.do(run())

    def close(self) -> None:
        """Stop listening and end the thread."""

        async def stop() -> None:
            self._server.close()
            for connection in list(self.listener.connections):
                connection._transport.abort()
            await self._grpc.stop(0.1)

        self.do(stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(limit(10))
        self.loop.close()
