"""What one host writes down: the audit log always, the others when they are asked for."""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Final

from slipway.errors import SlipwayError
from slipway.host.answer.call import Begin
from slipway.host.answer.core import Core, Observer
from slipway.host.follow.background import in_background
from slipway.host.guard.caller import Guard
from slipway.host.guard.gate import AccessGate
from slipway.host.guard.rate import Used
from slipway.host.guard.used import read_used, write_used
from slipway.host.observe.access import AccessLog
from slipway.host.observe.audit import Audit
from slipway.host.observe.callers import Callers
from slipway.host.observe.gpu import Gpus
from slipway.host.observe.metrics import Metrics
from slipway.host.observe.tracing import Tracer
from slipway.host.process.options import HostOptions

log = logging.getLogger(__name__)

QUOTAS: Final = "quotas.json"


class Recording:
    """The records of one host."""

    def __init__(self, options: HostOptions, core: Core, metrics: Metrics, guard: Guard) -> None:
        """Open what is asked for; raise SlipwayError for a file that cannot be written."""
        records = options.records
        self._gate = guard if isinstance(guard, AccessGate) else None
        self._quotas = options.state / QUOTAS
        self._kept: dict[str, Used] = {}
        if self._gate is not None:
            self._gate.restore(read_used(self._quotas))
        path = records.audit_log or options.state / "audit.jsonl"
        try:
            self._audit = Audit(path)
        except OSError as error:
            raise SlipwayError(f"--audit-log: {path}: {error.strerror}") from None
        self._access = AccessLog(records.access_log) if records.access_log else None
        self._capture = None
        if records.capture is not None:
            # Imported late: it brings pyarrow's Parquet with it.
            from slipway.host.observe.capture import Capture, CaptureOptions

            wanted = CaptureOptions(
                records.capture, records.capture_ratio, frozenset(records.redact)
            )
            self._capture = Capture(wanted)
        self._tracer: Tracer | None = None
        if records.traces:
            self._tracer = start_tracer(
                records.traces, options.name, options.fleet, records.trace_ratio
            )
        observers: list[Observer] = [
            each for each in (self._access, self._capture, self._tracer) if each is not None
        ]
        core.observers = tuple(observers)
        if self._gate is not None:
            core.callers = Callers()
            metrics.registry.register(core.callers)
        for name, record in (
            ("access", self._access), ("capture", self._capture), ("trace", self._tracer)
        ):  # fmt: skip
            if record is not None:
                metrics.drops[name] = lambda record=record: record.dropped  # type: ignore[misc]
        self._gpus = Gpus()
        metrics.registry.register(self._gpus)

    @property
    def begin(self) -> Begin | None:
        """What begins a trace; None without tracing."""
        return self._tracer.begin if self._tracer is not None else None

    def record(self, event: str, caller: str) -> None:
        """Write to the audit log; raise OSError if it is not on the disk."""
        self._audit.record(event, caller=caller)

    def record_later(self, event: str, caller: str) -> asyncio.Future[None]:
        """Do the same beside the event loop."""
        return in_background(partial(self.record, event, caller), "audit")

    def reload(self) -> None:
        """Read keys again, and open the access log anew."""
        if self._gate is not None:
            self._gate.reload()
        if self._access is not None:
            self._access.reopen()

    def poll(self) -> None:
        """Follow changed key files, and keep what was used of the quotas."""
        if self._gate is not None:
            self._gate.poll()
            self._keep_used(self._gate.used())

    def _keep_used(self, used: Mapping[str, Used]) -> None:
        if used != self._kept:
            self._kept = dict(used)
            write_used(self._quotas, used)

    def close(self) -> None:
        """Write what waits."""
        for each in (self._access, self._capture, self._tracer, self._gpus, self._audit):
            if each is not None:
                each.close()


def start_tracer(endpoint: str, host: str, fleet: str, ratio: float = 0.0) -> Tracer:
    """Trace to an OTLP/HTTP endpoint (its whole URL: http://collector:4318/v1/traces)."""
    try:
        # Imported late: it is optional, and takes 0.3 s.
        from slipway.host.observe.spans import Spans
    except ImportError:
        raise SlipwayError(
            "--traces needs OpenTelemetry: pip install 'slipway-ml[host,otel]'"
        ) from None
    return Tracer(Spans(endpoint, host, fleet), ratio)
