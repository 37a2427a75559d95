"""Count what one version does: plain numbers on the event loop, read when Prometheus asks.

A metric object with its lock costs more than all else that a small request needs from the host,
so the hot path adds to lists and the text is made at the scrape.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from slipway.host.observe.finished import Execution, FinishedRun

SECONDS: Final = (
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30,
)  # fmt: skip
"""A tiny model answers in under a millisecond, a large one in seconds."""

STEP_SECONDS: Final = (0.00005, 0.0001, *SECONDS)
"""One step of a request takes less than all of it."""

SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Distribution:
    """One histogram: how many values fell below each bound, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Per bucket, not cumulative; the last has no bound."""
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Take one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return the cumulative counts as Prometheus writes them."""
        total = 0
        buckets = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(total)))
        return buckets


@dataclass(slots=True)
class SeriesTotals:
    """What one version did so far; times are in seconds, added up."""

    answered: int
    refused: int
    runs: int
    rows: int
    request_s: float
    queue_s: float
    run_s: float
    copy_s: float


class Series:
    """What one version of a model did. For the event loop only; keep the object, it is the key."""

    __slots__ = (
        "__weakref__", "batch_jobs", "batch_rows", "cache_coalesced",
        "cache_hits", "cache_misses", "codes", "copy_seconds", "failed", "labels", "queue_seconds",
        "run_seconds", "seconds",
    )  # fmt: skip

    def __init__(self, model: str, version: str) -> None:
        self.labels = (model, version)
        self.codes: dict[str, int] = {}
        self.seconds = Distribution(SECONDS)
        self.queue_seconds = Distribution(STEP_SECONDS)
        self.run_seconds = Distribution(STEP_SECONDS)
        self.batch_rows = Distribution(SIZES)
        self.batch_jobs = Distribution(SIZES)
        self.copy_seconds = 0.0
        self.failed: dict[str, int] = {}
        """Batches by the class of what they raised."""
        self.cache_hits = 0
        self.cache_misses = 0
        self.cache_coalesced = 0
        """Requests that waited for an equal one in flight."""

    def totals(self) -> "SeriesTotals":
        """Return what was counted so far."""
        return SeriesTotals(
            answered=sum(self.seconds.counts),
            refused=sum(self.codes.values()),
            runs=sum(self.batch_rows.counts),
            rows=int(self.batch_rows.sum),
            request_s=self.seconds.sum,
            queue_s=self.queue_seconds.sum,
            run_s=self.run_seconds.sum,
            copy_s=self.copy_seconds,
        )

    def count(self, code: str) -> None:
        """Count a request that was not answered, by its error's code."""
        codes = self.codes
        codes[code] = codes.get(code, 0) + 1

    def answered(self, total_s: float) -> None:
        """Count an answered request (code `ok`: it needs no `count`) and how long it took."""
        # Distribution.add, without the call: this runs for every request.
        seconds = self.seconds
        seconds.counts[bisect_left(SECONDS, total_s)] += 1
        seconds.sum += total_s

    def batch(
        self, batch: FinishedRun, jobs: Sequence[Execution], error: Exception | None = None
    ) -> None:
        """Count one run of the model and the wait of each of its requests: a BatchObserver."""
        started = batch.started
        queued = self.queue_seconds
        counts = queued.counts
        total_s = 0.0
        for job in jobs:  # Distribution.add, without the call
            queued_s = started - job.arrived
            counts[bisect_left(STEP_SECONDS, queued_s)] += 1
            total_s += queued_s
        queued.sum += total_s
        self.run_seconds.add(batch.ended - started)
        self.batch_rows.add(batch.rows)
        self.batch_jobs.add(len(jobs))
        self.copy_seconds += batch.copy_s
        if error is not None:
            kind: str = getattr(error, "code", type(error).__name__)  # of a refusal
            self.failed[kind] = self.failed.get(kind, 0) + 1


def render(all_series: Iterable[Series]) -> list[Metric]:
    """Make the metric families of all series."""
    series = sorted(all_series, key=lambda one: one.labels)
    return [
        _by("code", "slipway_requests",
            "Inference requests by the version that answered; code is ok or the error's.",
            [(one.labels, _codes(one)) for one in series]),
        _histogram("request_seconds",
            "From the complete request to its answer, for answered requests.",
            [(one.labels, one.seconds) for one in series]),
        _histogram("queue_seconds", "From the checked request to the begin of its run.",
            [(one.labels, one.queue_seconds) for one in series]),
        _histogram("run_seconds", "One run of the model on one batch.",
            [(one.labels, one.run_seconds) for one in series]),
        _histogram("batch_rows", "Rows of a batch.",
            [(one.labels, one.batch_rows) for one in series]),
        _histogram("batch_requests", "Requests of a batch.",
            [(one.labels, one.batch_jobs) for one in series]),
        _counter("copy_seconds", "Stacking rows, and moving them to and from a device.",
            [(one.labels, one.copy_seconds) for one in series]),
        _by("error", "slipway_batches_failed", "Batches that raised, by the error's class.",
            [(one.labels, one.failed) for one in series]),
        _by("outcome", "slipway_cache_requests",
            "Requests by what the result cache had: hit, miss, or coalesced with one in flight.",
            [(one.labels, _cache(one)) for one in series]),
    ]  # fmt: skip


def _codes(one: Series) -> dict[str, int]:
    """Count by code; `ok` is what the histogram of answers counted."""
    answered = sum(one.seconds.counts)
    return {"ok": answered} | one.codes if answered else one.codes


def _cache(one: Series) -> dict[str, int]:
    """Count by outcome; nothing for a version that the cache never saw."""
    hits, misses, coalesced = one.cache_hits, one.cache_misses, one.cache_coalesced
    if not (hits or misses or coalesced):
        return {}
    return {"hit": hits, "miss": misses, "coalesced": coalesced}


def _by(
    label: str, name: str, text: str, values: Sequence[tuple[tuple[str, str], dict[str, int]]]
) -> CounterMetricFamily:
    """Make a counter with one more label."""
    family = CounterMetricFamily(name, text, labels=("model", "version", label))
    for labels, counts in values:
        for key, count in counts.items():
            family.add_metric((*labels, key), count)
    return family


def _counter(
    name: str, text: str, values: Sequence[tuple[tuple[str, str], float]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"slipway_{name}", text, labels=("model", "version"))
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _histogram(
    name: str, text: str, values: Sequence[tuple[tuple[str, str], Distribution]]
) -> HistogramMetricFamily:
    """Make one family; a distribution without any value is left out."""
    family = HistogramMetricFamily(f"slipway_{name}", text, labels=("model", "version"))
    for labels, distribution in values:
        if any(distribution.counts):
            family.add_metric(labels, distribution.buckets(), distribution.sum)
    return family
