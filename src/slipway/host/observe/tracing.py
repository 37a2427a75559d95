"""Trace requests, if asked to: OpenTelemetry spans over OTLP/HTTP, made after the answer.

While a request runs, its trace only notes intervals of `time.perf_counter`. A thread makes spans
of them, and OpenTelemetry's own thread sends these; a collector that is dead or slow costs spans,
never a request. Whose request is traced is the caller's choice (W3C `traceparent`, sampled), up
to a rate, so that no caller can make the host spend itself on spans.
"""

import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from slipway.host.observe.finished import Finished, FinishedRun
from slipway.host.observe.sink import Sink

PER_SECOND: Final = 100
"""A traced request costs about 0.15 ms of a thread, for which the event loop waits in part."""

WAITING_MAX: Final = 1000
STEPS_MAX: Final = 32

TRACEPARENT: Final = re.compile(
    rb"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})"
    rb"-(?P<span>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
"""https://www.w3.org/TR/trace-context/#traceparent-header"""


class Parent(NamedTuple):
    """The caller's span."""

    trace_id: int
    span_id: int
    sampled: bool


class Traced(NamedTuple):
    """One finished request, for the thread that makes spans."""

    parent: Parent | None
    started: float
    ended: float
    steps: list[tuple[str, float, float]]
    attributes: dict[str, str | int]
    code: str
    batch: FinishedRun | None


class Exporter(Protocol):
    """Where finished requests go."""

    def write(self, records: list[Traced]) -> None:
        """Take some, or none: then time has passed. Called by one thread."""

    def close(self) -> None:
        """Send what is there."""


class Trace:
    """One traced request on its way."""

    __slots__ = ("_parent", "_sink", "_started", "_steps")

    def __init__(self, sink: Sink[Traced], parent: Parent | None) -> None:
        self._sink = sink
        self._parent = parent
        self._started = time.perf_counter()
        self._steps: list[tuple[str, float, float]] = []

    def step(self, name: str, start_s: float, end_s: float) -> None:
        """Note that a step took so long; times are of `time.perf_counter`."""
        if len(self._steps) < STEPS_MAX:
            self._steps.append((name, start_s, end_s))

    def finish(self, request: Finished) -> None:
        """Hand over what is known, once; nothing of the request's tensors is kept."""
        job, code = request.job, request.code
        run = job.batch if job is not None else None
        if job is not None and run is not None:
            self.step("queue", job.arrived, run.started)
            self.step("run", run.started, run.ended)
        attributes: dict[str, str | int] = {
            "slipway.request_id": request.request_id,
            "slipway.model": request.model,
            "slipway.version": request.version or "",
            "slipway.caller": request.caller,
            "slipway.code": code,
        }
        started = min([self._started, *(start for _, start, _ in self._steps)])
        ended = time.perf_counter()
        self._sink.put(
            Traced(
                self._parent,
                started,
                ended,
                self._steps,
                attributes=attributes,
                code=code,
                batch=run,
            )
        )


class Tracer:
    """Decides which requests are traced; an observer of finished requests."""

    def __init__(
        self,
        exporter: Exporter,
        ratio: float = 0.0,
        per_second: int = PER_SECOND,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._sink: Sink[Traced] = Sink("trace", exporter.write, WAITING_MAX)
        self._exporter = exporter
        self._ratio = ratio
        self._per_second = per_second
        self._draw = draw
        self._second = 0
        self._taken = 0
        self._refused = 0

    @property
    def dropped(self) -> int:
        """How many traces were wanted and not made."""
        return self._sink.dropped + self._refused

    def begin(self, headers: Mapping[bytes, bytes]) -> Trace | None:
        """Return a trace for a request that its caller, or chance, has chosen."""
        header = headers.get(b"traceparent")
        if header is None and not self._ratio:
            return None
        parent = parse_traceparent(header) if header is not None else None
        if not (parent.sampled if parent else self._ratio and self._draw() < self._ratio):
            return None
        return Trace(self._sink, parent) if self._within_rate() else None

    def finished(self, request: Finished) -> None:
        """Hand over the trace of a request that has one."""
        if isinstance(request.trace, Trace):
            request.trace.finish(request)

    def close(self) -> None:
        """Make spans of what waits and send them, for a moment at most."""
        self._sink.close()
        self._exporter.close()

    def _within_rate(self) -> bool:
        second = int(time.perf_counter())
        if second != self._second:
            self._second, self._taken = second, 0
        self._taken += 1
        if self._taken <= self._per_second:
            return True
        self._refused += 1
        return False


def parse_traceparent(header: bytes) -> Parent | None:
    """Return the caller's span; None for a header that is not exactly what W3C asks for."""
    found = TRACEPARENT.fullmatch(header)
    if found is None or (found["version"] == b"00" and found["rest"] is not None):
        return None
    sampled = bool(int(found["flags"], 16) & 1)
    return Parent(int(found["trace"], 16), int(found["span"], 16), sampled)
