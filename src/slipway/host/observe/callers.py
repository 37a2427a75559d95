"""Count what each caller uses: requests, rows, and its share of the time that models ran.

A request's share of its batch is by rows: padding and the batch's fixed cost are everybody's.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from slipway.host.observe.finished import Execution

CALLERS_MAX: Final = 1000
OTHER: Final = "other"
"""Whoever comes after so many; tokens can name any number of subjects."""


class Usage:
    """What one caller used so far."""

    __slots__ = ("requests", "rows", "run_s")

    def __init__(self) -> None:
        self.requests = 0
        self.rows = 0
        self.run_s = 0.0


class Callers(Collector):
    """Counts by caller; register it with the metrics' registry."""

    def __init__(self, callers_max: int = CALLERS_MAX) -> None:
        self._usage: dict[str, Usage] = {}
        self._callers_max = callers_max

    def count(self, caller: str, job: Execution | None) -> None:
        """Count one request of a caller; the job is what ran for it, if anything did."""
        usage = self._usage.get(caller) or self._admit(caller)
        usage.requests += 1
        if job is not None and (batch := job.batch) is not None:
            usage.rows += job.rows
            usage.run_s += (batch.ended - batch.started) * job.rows / batch.rows

    def _admit(self, caller: str) -> Usage:
        if len(self._usage) >= self._callers_max:
            caller = OTHER
        return self._usage.setdefault(caller, Usage())

    def collect(self) -> Iterator[Metric]:
        """Return the three families."""
        label = ("caller",)
        requests = CounterMetricFamily("slipway_caller_requests", "Requests.", labels=label)
        rows = CounterMetricFamily("slipway_caller_rows", "Rows that a model ran.", labels=label)
        run = CounterMetricFamily(
            "slipway_caller_run_seconds",
            "Share by rows of the time that models ran: of the GPU, or of the CPU without one.",
            labels=label,
        )
        for caller, usage in sorted(self._usage.items()):
            requests.add_metric((caller,), usage.requests)
            rows.add_metric((caller,), usage.rows)
            run.add_metric((caller,), usage.run_s)
        yield from (requests, rows, run)
