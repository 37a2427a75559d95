"""Measure a model on this machine before it serves, and warm it up by the way.

What is chosen by these numbers: whether it runs inline on the event loop or in threads, how
large its batches grow, and whether a lone request gets all cores.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from slipway.host.request.message import Array

Run = Callable[[dict[str, Array]], Mapping[str, Array]]

BUDGET_S: Final = 0.6
"""For one model in all; each figure takes a share of it, and needs no more to be right by a
few percent. A model that is slower than that is measured once per size."""

NEAR_BEST: Final = 0.95
"""A measurement on a shared machine is not better than this."""

SMALL_SHARE: Final = 0.01
"""Of a row's cost: what a batch costs beside its run is shared until it is no more."""

HANDOVER_S: Final = 200e-6
"""What a batch costs beside its run: a thread wakes, two wait for one interpreter, the answers go
back to the event loop. A cnn of 580 µs a row takes 872 µs of CPU a request in batches of 4 under
load, 825 of 8, 766 of 32, where the runs alone differ by 2 %."""

TURN_S: Final = 20e-6
"""The same for a batch that runs on the event loop."""
BATCH_MIN: Final = 4
"""Never 1: on a busy host the shared cost of a run is more than a measurement alone shows."""
BATCH_MAX: Final = 256

INLINE_ROW_S: Final = 300e-6
"""A row that costs less runs on the event loop: a thread's hand-over costs up to 100 µs."""

WIDE_GAIN: Final = 1.15
"""A second session holds the weights once more; for less it is not worth it."""
WIDE_ROW_S: Final = 150e-6
"""Below this no model gains: waking the threads takes as long."""
PAUSE_S: Final = 0.0005
"""Between two lone runs, as between a caller's answer and its next request: threads that the
pool put to sleep must be woken, which a tight loop would not show."""
QUIET_SHARE: Final = 0.25
"""The quantile that is compared: other work on the machine only ever adds."""


@dataclass(frozen=True)
class Measured:
    """One model on this machine."""

    row_s: float
    """One row alone."""
    best_rows: int
    """The smallest batch near the best throughput."""
    wide: bool = False
    """Whether a lone request is clearly faster with all cores."""

    @property
    def inline(self) -> bool:
        """Whether it should run on the event loop."""
        return self.row_s < INLINE_ROW_S


def measure(
    run: Run,
    sample: Mapping[str, Array],
    most_rows: int,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Time one row, then growing batches, until they gain no more or the time is up.

    `sample` holds rows along the first axis of every input; `most_rows` 0 says that it is one
    whole request that shares no run.
    """
    if most_rows == 0:
        return Measured(_fastest(run, dict(sample), budget_s, clock), 1)
    started = clock()
    per_row: dict[int, float] = {}
    for rows in _sizes(min(most_rows, BATCH_MAX)):
        left_s = budget_s - (clock() - started)
        if per_row and rows * min(per_row.values()) * 2 > left_s:
            break
        inputs = take_rows(sample, rows)
        per_row[rows] = _fastest(run, inputs, budget_s / 8, clock) / rows
    return Measured(per_row[1], choose_batch(per_row, most_rows))


def choose_batch(per_row: Mapping[int, float], most_rows: int) -> int:
    """Return the smallest size that is as fast as any, its own cost shared by its rows.

    `per_row`: seconds of a run per row, by batch size.
    """
    best = min(per_row.values())
    near = sorted(rows for rows, each_s in per_row.items() if each_s * NEAR_BEST <= best)
    shared_s = TURN_S if per_row[1] < INLINE_ROW_S else HANDOVER_S
    enough = [rows for rows in near if shared_s / rows <= best * SMALL_SHARE]
    return min(most_rows, max(enough[0] if enough else near[-1], BATCH_MIN))


def gains(narrow: Run, wide: Run, sample: Mapping[str, Array], budget_s: float = 0.3) -> bool:
    """Tell whether a lone row is clearly faster with all cores, as a single caller sees it."""
    inputs = take_rows(sample, 1)
    times: dict[Run, list[float]] = {narrow: [], wide: []}
    until = time.perf_counter() + budget_s
    while not times[wide] or (len(times[wide]) < 40 and time.perf_counter() < until):
        for run, took in times.items():
            time.sleep(PAUSE_S)
            begun = time.perf_counter()
            run(inputs)
            took.append(time.perf_counter() - begun)
    slow, fast = (float(np.quantile(times[run], QUIET_SHARE)) for run in (narrow, wide))
    return slow >= WIDE_GAIN * fast


def warm(run: Run, sample: Mapping[str, Array], best_rows: int, budget_s: float = 0.1) -> int:
    """Run every batch size once, the likeliest first; return how many were run in time.

    A first run of a shape plans its memory, and on a GPU it may choose kernels for seconds.
    """
    done = 0
    until = time.perf_counter() + budget_s
    likely = list(_sizes(best_rows))
    for rows in [*likely, *(n for n in range(1, best_rows + 1) if n not in likely)]:
        if done >= len(likely) and time.perf_counter() > until:
            break
        run(take_rows(sample, rows))
        done += 1
    return done


def take_rows(sample: Mapping[str, Array], rows: int) -> dict[str, Array]:
    """Return so many rows, beginning anew when the sample has fewer."""
    return {
        name: np.ascontiguousarray(np.take(values, np.arange(rows) % len(values), axis=0))
        for name, values in sample.items()
    }


def _sizes(most: int) -> Iterator[int]:
    rows = 1
    while rows < most:
        yield rows
        rows *= 2
    yield most


def _fastest(run: Run, inputs: dict[str, Any], share_s: float, clock: Callable[[], float]) -> float:
    """Return the fastest of several runs: what disturbs a run only ever makes it slower."""
    run(inputs)  # the first one plans
    fastest = float("inf")
    until = clock() + share_s
    for _ in range(200):
        begun = clock()
        run(inputs)
        ended = clock()
        fastest = min(fastest, ended - begun)
        if ended > until:
            break
    return fastest
