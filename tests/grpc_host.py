"""A real gRPC server with a real core on a real port; only the model is of paper."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import grpc
import numpy as np
import uvloop

from slipway.bundle.contract import Contract
from slipway.host.answer.call import Loaded, Serving
from slipway.host.answer.core import Core
from slipway.host.engine.job import Batch, Job, too_late
from slipway.host.guard.caller import Caller, Guard, OpenGuard
from slipway.host.observe.metrics import Metrics
from slipway.host.request.refusal import RequestRefused
from slipway.host.wire.grpc.schema import SERVICE, message_class
from slipway.host.wire.grpc.server import GrpcLimits, GrpcServer
from tests.support.contracts import echo_contract
from tests.support.pace import limit

A, B = "a" * 64, "b" * 64

DATATYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "BF16", "FP32", "FP64", "BYTES",
)  # fmt: skip


class PaperEngine:
    """Answers each input under its own name, `y_` before it; holds jobs back while told to."""

    full = False

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.hold = False
        self.error: Exception | None = None
        self.taken = 0

    def submit(self, job: Job) -> None:
        if self.full:
            raise RequestRefused("queue_full", "too many requests are waiting; try again")
        self.taken += 1
        self.jobs.append(job)
        if not self.hold:
            asyncio.get_running_loop().call_soon(self.run)

    def run(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            if job.cancelled:
                continue
            job.batch = Batch(1, job.rows, 1, job.arrived, job.arrived)
            outputs = {f"y_{name}": values for name, values in job.inputs.items()}
            job.finish(job, self.error or outputs)

    def expire(self) -> None:
        """Refuse what waits, as an engine does after a deadline."""
        for job in self.jobs:
            job.finish(job, too_late())


class KeyGuard:
    """Knows `Bearer` words as callers."""

    generation = 0

    def __init__(self, **callers: Caller) -> None:
        self.callers = {f"Bearer {word}".encode(): caller for word, caller in callers.items()}

    def identify(self, authorization: bytes | None) -> Caller:
        if authorization not in self.callers:
            raise RequestRefused("unauthenticated", "send a key in 'Authorization'")
        return self.callers[authorization]


make_contract = partial(echo_contract, max_rows=1000)


class GrpcHost:
    """A loop in a thread, as the host has it, with one server in it."""

    def __init__(self, guard: Guard | None = None, limits: GrpcLimits | None = None,
                 tls: Any = None, **more: Any) -> None:  # fmt: skip
        self.metrics = Metrics()
        self.core = Core(self.metrics)
        self.core.ready = True
        self.core.awaited = frozenset()
        self.engines: dict[str, PaperEngine] = {}
        self.loop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="host")
        self._make = lambda: GrpcServer(self.core, guard or OpenGuard(), limits, tls, **more)
        self.server: GrpcServer
        self.port = 0

    async def _start(self) -> None:
        self.server = self._make()
        self.port = await self.server.start("127.0.0.1", 0)

    def start(self) -> "GrpcHost":
        self.thread.start()
        self.do(self._start())
        return self

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the host's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def call(self, act: Callable[[], Any]) -> Any:
        """Call a function in the host's loop."""

        async def run() -> Any:
            return act()

        return self.do(run())

    def stop(self, grace_s: float = 1.0) -> None:
        self.do(self.server.stop(grace_s))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(limit(10))
        self.loop.close()

    def load(self, version: str = A, contract: Contract | None = None) -> Loaded:
        """Make a version with an engine of its own."""
        contract = contract or make_contract(x="FP32")
        engine = self.engines[version] = PaperEngine()
        return Loaded(version, contract, engine, self.metrics.series(contract.model, version))

    def serve(self, stable: Loaded | None, candidate: Loaded | None = None, model: str = "m",
              **fields: Any) -> None:  # fmt: skip
        self.core.models = {**self.core.models, model: Serving(stable, candidate, **fields)}

    @contextlib.contextmanager
    def channel(self, **options: int) -> Iterator[grpc.Channel]:
        """Connect; `_` in an option's name stands for the dot."""
        settings = [(f"grpc.{name}", value) for name, value in options.items()]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", settings) as channel:
            yield channel


@contextlib.contextmanager
def grpc_host(**fields: Any) -> Iterator[GrpcHost]:
    """Run a host that serves the model `m`: one input x, FP32, two values a row."""
    host = GrpcHost(**fields).start()
    try:
        host.serve(host.load())
        yield host
    finally:
        host.stop()


def method(channel: grpc.Channel, name: str) -> Callable[..., Any]:
    """Return a method of the protocol as a client calls it."""
    request = {"ModelReady": "ModelReady", "ModelConfig": "ModelConfig"}.get(name, name)
    found: Callable[..., Any] = channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=message_class(f"{request}Request").SerializeToString,
        response_deserializer=message_class(f"{request}Response").FromString,
    )
    return found


def make_request(**fields: Any) -> Any:
    """Return a good ModelInferRequest, raw, or what the fields make of it."""
    values = np.array([[1, 2]], np.float32)
    good = {
        "model_name": "m",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}],
        "raw_input_contents": [values.tobytes()],
    }
    return message_class("ModelInferRequest")(**{**good, **fields})
