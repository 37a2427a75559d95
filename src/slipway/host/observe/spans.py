"""Make OpenTelemetry spans of traced requests and send them: the `otel` extra.

A request's span has one child per step. A batch is a trace of its own, because it has many
parents and a span has one: its span links to the spans of the requests in it, and their `run`
steps link back.
"""

import threading
import time
from dataclasses import dataclass
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from slipway.host.observe.finished import FinishedRun
from slipway.host.observe.tracing import Traced

SPANS_MAX: Final = 4096
"""Spans that wait to be sent; the oldest go first."""

SEND_S: Final = 5.0
"""The longest wait for the collector's answer."""

SETTLED_S: Final = 0.5
"""So long after its end all requests of a batch have been handed over."""


@dataclass
class _Open:
    """A batch whose span may still get links."""

    batch: FinishedRun
    span: Span


class Spans:
    """Turns traced requests into spans; `write` is for the thread of a Tracer."""

    def __init__(self, endpoint: str, host: str, fleet: str) -> None:
        resource = {
            "service.name": "slipway-host",
            "service.instance.id": host,
            "slipway.fleet": fleet,
        }
        self._provider = TracerProvider(ALWAYS_ON, Resource(resource), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint, timeout=SEND_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=SPANS_MAX))
        self._tracer = self._provider.get_tracer("slipway.host")
        self._open: dict[int, _Open] = {}
        # Fixed once: a step of the wall clock must not bend the spans of a request.
        self._offset_ns = time.time_ns() - time.perf_counter_ns()

    def write(self, records: list[Traced]) -> None:
        """Make the spans; batches that nothing more can belong to are ended."""
        for record in records:
            self._make(record)
        settled = time.perf_counter() - SETTLED_S
        for key, opened in list(self._open.items()):
            if opened.batch.ended < settled:
                self._end(key)

    def close(self, wait_s: float = 1.0) -> None:
        """Send what is there, for a moment at most."""
        for key in list(self._open):
            self._end(key)
        # It would wait 30 s for a collector that is dead.
        last = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        last.start()
        last.join(wait_s)

    def _make(self, record: Traced) -> None:

        request = self._tracer.start_span(
            "infer",
            _parent_context(record),
            SpanKind.SERVER,
            record.attributes,
            start_time=self._unix_ns(record.started),
        )
        batch = self._batch_of(record, request.get_span_context())
        inside = set_span_in_context(request)
        for name, start_s, end_s in record.steps:
            links = [Link(batch)] if batch is not None and name == "run" else None
            step = self._tracer.start_span(
                name, inside, links=links, start_time=self._unix_ns(start_s)
            )
            step.end(self._unix_ns(end_s))
        if record.code != "ok":
            request.set_status(Status(StatusCode.ERROR, record.code))
        request.end(self._unix_ns(record.ended))

    def _batch_of(self, record: Traced, request: SpanContext) -> SpanContext | None:
        """Link the batch's span to a request, and return it; begin it at the first request."""

        batch = record.batch
        if batch is None:
            return None
        opened = self._open.get(id(batch))
        if opened is None:
            attributes = {
                "slipway.batch": batch.number,
                "slipway.rows": batch.rows,
                "slipway.requests": batch.jobs,
                "slipway.model": record.attributes["slipway.model"],
                "slipway.version": record.attributes["slipway.version"],
            }
            span = self._tracer.start_span(
                "batch", Context(), attributes=attributes, start_time=self._unix_ns(batch.started)
            )
            opened = self._open[id(batch)] = _Open(batch, span)
        opened.span.add_link(request)
        return opened.span.get_span_context()

    def _end(self, key: int) -> None:
        opened = self._open.pop(key)
        opened.span.end(self._unix_ns(opened.batch.ended))

    def _unix_ns(self, counter_s: float) -> int:
        return self._offset_ns + int(counter_s * 1e9)


def _parent_context(record: Traced) -> Context:
    """Return the context of the caller's span; an empty one begins a trace."""
    if record.parent is None:
        return Context()
    trace_id, span_id, _ = record.parent
    parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))
    return set_span_in_context(NonRecordingSpan(parent), Context())
