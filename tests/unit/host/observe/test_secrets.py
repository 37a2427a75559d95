"""A key or token that a caller sends is in nothing that the host writes down."""

import io
import logging
from pathlib import Path

from slipway.host.observe.access import AccessLog
from slipway.host.observe.audit import Audit
from slipway.host.observe.callers import Callers
from slipway.host.observe.capture import Capture, CaptureOptions
from slipway.host.observe.logs import start_logging
from slipway.host.observe.metrics import Metrics
from slipway.host.process.recording import start_tracer
from tests.collector import Collector
from tests.host_calls import answer, make_batch, make_call, make_job

CANARY = "sk-CANARY-0123456789"


def test_an_authorization_header_is_in_no_log_trace_metric_or_capture(tmp_path: Path) -> None:
    collector, text, metrics = Collector(), io.StringIO(), Metrics()
    loggers = [logging.getLogger(name) for name in ("slipway", "opentelemetry")]
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    handler = start_logging(text)
    tracer = start_tracer(collector.endpoint, "h", "f")
    access = AccessLog(str(tmp_path / "access.log"))
    capture = Capture(CaptureOptions(tmp_path / "captured", ratio=1.0))
    audit, callers = Audit(tmp_path / "audit.jsonl"), Callers()
    metrics.registry.register(callers)
    headers = {
        b"traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"authorization": f"Bearer {CANARY}".encode(),
    }
    try:
        call = make_call(caller="ann", trace=tracer.begin(headers))
        job = make_job()
        make_batch([job])
        for observer in (tracer, access, capture):
            observer.finished(answer(call, job=job))
        callers.count(call.caller.id, job)
        audit.record("load", caller="ann")
        logging.getLogger("slipway.host").error("failed", extra={"caller": "ann"})
        for each in (tracer, access, capture, handler, audit):
            each.close()
        collector.wait(4)
    finally:
        collector.close()
        for logger, handlers, level, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    written += [text.getvalue().encode(), metrics.render(), *collector.raw]
    assert len(written) >= 7
    assert all(written)
    found = [data for data in written if CANARY.encode() in data]
    assert found == []
    assert sum(b"ann" in data for data in written) >= 5
