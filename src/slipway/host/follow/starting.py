"""Make an opened version ready to serve: how it is run, how it is batched, what is counted."""

from dataclasses import dataclass
from typing import Final

from slipway.host.answer.call import Loaded
from slipway.host.answer.counts import Counts
from slipway.host.engine.batch import Shapes
from slipway.host.engine.cache import Cache, CachedEngine
from slipway.host.engine.checks import Checked, make_admission
from slipway.host.engine.engine import Batching, Engine, Workers
from slipway.host.engine.measure import Measured
from slipway.host.engine.spin import Spin
from slipway.host.engine.tuning import Tuner, TuningSettings
from slipway.host.follow.loading import Opened
from slipway.provider import CPU

QUEUE_S: Final = 0.5
"""What waits longer than this helps nobody, and after an overload it is what everyone waits for."""

REQUEST_S: Final = 15e-6
"""What the host itself spends on a small request."""

QUEUE_MIN, QUEUE_MAX = 64, 4096
"""Clients of a slow model would rather wait than come back; of a fast one, a burst is no load."""

TUNED_ROWS_MAX: Final = 256
"""The largest batch that tuning tries."""

TUNED_DELAY_SHARE: Final = 0.25
"""Of the p95 target: the longest that tuning lets a batch wait."""


@dataclass(frozen=True)
class Running:
    """What every version of this host is run with."""

    workers: Workers
    counts: Counts
    cache: Cache | None = None
    max_rows: int | None = None
    """The largest batch; None: what was measured when the version was opened."""
    max_delay_us: int = 0
    queue_jobs: int | None = None
    """Requests that may wait; None: as many as are answered in QUEUE_S."""
    p95_ms: float | None = None
    """Tune batches to this; None: leave them."""
    spin: Spin | None = None
    """Keeps the event loop awake between requests."""


def make_loaded(model: str, version: str, opened: Opened, running: Running) -> Loaded:
    """Start the engine of an opened version. On the event loop."""
    contract = opened.contract
    series = running.counts.series(model, version)
    measured = opened.measured
    batching = Batching(
        max_rows=running.max_rows or measured.best_rows,
        max_delay_us=running.max_delay_us,
        spread=contract.requires.provider == CPU,
        queue_jobs=running.queue_jobs or _queue_jobs(measured, running.workers.threads),
    )
    engine: Engine | CachedEngine = Engine(
        Checked(opened.runner, contract),
        None if measured.inline else running.workers,
        batching,
        series,
        admit=make_admission(contract),
        shapes=Shapes.of(contract),
        tuner=_tuner(running, batching) if contract.batchable else None,
        spin=running.spin,
    )
    if running.cache is not None:
        engine = CachedEngine(engine, running.cache, version, series)
    return Loaded(version, contract, engine, series)


def _queue_jobs(measured: Measured, threads: int) -> int:
    """Return how many requests may wait, from what one row costs."""
    per_s = 1 / (measured.row_s + REQUEST_S) if measured.inline else threads / measured.row_s
    return max(QUEUE_MIN, min(QUEUE_MAX, int(per_s * QUEUE_S)))


def _tuner(running: Running, batching: Batching) -> Tuner | None:
    if running.p95_ms is None:
        return None
    settings = TuningSettings(
        target_ms=running.p95_ms,
        rows=batching.max_rows,
        rows_max=max(batching.max_rows, TUNED_ROWS_MAX),
        delay_us=batching.max_delay_us,
        delay_max_us=int(running.p95_ms * 1000 * TUNED_DELAY_SHARE),
    )
    return Tuner(settings, running.workers.threads)
