"""Tune batch size and delay to a p95 target: a pure rule, and the windows that it is given.

The size is doubled or halved by what a row costs in full batches, remembered for each size: a
doubling must save a tenth, so the size settles on the smallest that is nearly as fast as any.
Under a constant cost per row no smaller size shortens a queue; so the target speaks only where
a larger batch is a choice, and where no smaller one has been tried. The delay is additive up,
multiplicative down, and only ever up while the workers are busy: an idle one gains nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from slipway.host.engine.job import Batch, Job
from slipway.host.engine.queue import Batching

GAIN: Final = 1.11
"""A row of the smaller batch costs so much more, or doubling is not worth it."""

NO_GAIN: Final = 1.10
"""Below GAIN, so that what one rule undoes the other does not do again."""

CALM: Final = 0.8
"""Below this part of the target there is room for delay; a step of delay is a quarter of it."""

BUSY: Final = 0.6
QUIET: Final = 0.3
"""Shares of the workers' time. Apart, for the same reason as the gains."""

FULL: Final = 0.5
"""At least this share of batches had no room for one more job."""

WINDOW_S: Final = 1.0
BATCHES_MIN: Final = 8
SAMPLES_MAX: Final = 2048
"""Jobs of one window whose time is kept; the first come. A p95 of 2,048 is good to 1 %."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured while the settings stood still."""

    p95_ms: float
    """From arrival to the end of the run."""
    run_ms: float
    """Mean length of a run."""
    row_ms: float
    """What a row of these batches cost."""
    full: bool
    """Whether the size was in force: most batches had no room left."""
    busy: float
    """Share of the workers' time that went into these runs."""


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """The state of the controller."""

    target_ms: float
    rows: int
    rows_max: int
    delay_us: int = 0
    delay_max_us: int = 0
    costs: Mapping[int, float] = field(default_factory=dict)
    """Milliseconds that a row took in full batches, by their size."""


def tune(settings: TuningSettings, window: Window) -> TuningSettings:
    """Return the next settings: one step of one of them, or the same."""
    over = window.p95_ms > settings.target_ms
    if window.full:
        costs = {**settings.costs, settings.rows: window.row_ms}
        settings = replace(settings, costs=costs)
    step_us = max(1, round(settings.target_ms * 1000 * (1 - CALM) / 4))
    delay_us = settings.delay_us
    if delay_us and over:
        return replace(settings, delay_us=delay_us // 2 if delay_us >= 2 * step_us else 0)
    if delay_us and window.busy < QUIET:
        return replace(settings, delay_us=max(0, delay_us - step_us))
    if window.full:
        return replace(settings, rows=_rows(settings, window, over))
    if window.p95_ms < CALM * settings.target_ms and window.busy > BUSY:
        return replace(settings, delay_us=min(delay_us + step_us, settings.delay_max_us))
    return settings


def _rows(settings: TuningSettings, window: Window, over: bool) -> int:
    rows, costs, target_ms = settings.rows, settings.costs, settings.target_ms
    half, double = max(1, rows // 2), min(rows * 2, settings.rows_max)
    here, smaller, larger = costs[rows], costs.get(half), costs.get(double)
    if half < rows:
        if smaller is not None and smaller <= here * NO_GAIN:
            return half
        # A job waits for the run before its own: two runs must fit the target.
        if smaller is None and over and 2 * window.run_ms > target_ms:
            return half
    if double > rows:
        if larger is not None:
            return double if larger * GAIN < here else rows
        # Twice the rows take at most twice as long. When it is too late already, the queue is
        # too long, and only what saves time on every row can shorten it.
        if over or 4 * window.run_ms <= target_ms:
            return double
    return rows


class Tuner:
    """Measures windows and applies the rule, at most once a second. On the event loop."""

    def __init__(self, settings: TuningSettings, threads: int = 1) -> None:
        self.settings = settings
        self._threads = threads
        self._since = 0.0
        self._clear()

    def after(self, batch: Batch, jobs: Sequence[Job], batching: Batching) -> Batching:
        """Take the times of a batch that has ended; return the settings to go on with."""
        if not self._batches:
            self._since = batch.started
        self._batches += 1
        self._rows += batch.rows
        self._busy_s += batch.ended - batch.started
        self._full += batch.rows * (batch.jobs + 1) > batching.max_rows * batch.jobs
        if len(self._times) < SAMPLES_MAX:
            ended = batch.ended
            self._times += [ended - job.arrived for job in jobs]
        seconds = batch.ended - self._since
        if seconds < WINDOW_S or self._batches < BATCHES_MIN:
            return batching
        if batching.max_rows != self.settings.rows:  # the start, or somebody else's change
            self.settings = replace(self.settings, rows=batching.max_rows)
        self.settings = tune(self.settings, self._window(seconds))
        self._clear()
        rows, delay_us = self.settings.rows, self.settings.delay_us
        if (rows, delay_us) == (batching.max_rows, batching.max_delay_us):
            return batching
        return replace(batching, max_rows=rows, max_delay_us=delay_us)

    def _window(self, seconds: float) -> Window:
        times = sorted(self._times)
        return Window(
            p95_ms=times[int(0.95 * (len(times) - 1))] * 1e3,
            run_ms=self._busy_s / self._batches * 1e3,
            row_ms=self._busy_s / self._rows * 1e3,
            full=self._full >= FULL * self._batches,
            busy=self._busy_s / seconds / self._threads,
        )

    def _clear(self) -> None:
        self._batches = self._rows = self._full = 0
        self._busy_s = 0.0
        self._times: list[float] = []
