"""Latency: precisions timed in turns on the provider they will run on.

What is measured here differs from run to run, so it goes into a report and never into an out.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from slipway.bundle.format import canonical_json, file_digest, write_durably
from slipway.bundle.machine import hardware
from slipway.bundle.session import open_session
from tasks import columns
from tasks.columns import Arrays

if TYPE_CHECKING:
    from slipway.config import ProveConfig

REPORT = "prove.json"
"""The report's name in `.slipway/reports/<pipeline>/`."""

Clock = Callable[[], int]
"""Nanoseconds that only grow."""

WARM_UP_CALLS = 10
"""The first calls allocate and pack weights."""


@dataclass(frozen=True)
class Latency:
    """How long one call took."""

    p50_ms: float
    p99_ms: float
    rows: int
    rounds_p50_ms: list[float]


def time_models(
    config: "ProveConfig",
    models: Mapping[str, Path],
    rows: Arrays,
    reports: Path,
    clock: Clock = time.perf_counter_ns,
) -> dict[str, Any]:
    """Time models on the provider they will run on; write the report and return it."""
    sessions = {n: open_session(p, config.provider, config.threads) for n, p in models.items()}
    latency = measure_latency(
        {name: session.run for name, session in sessions.items()},
        rows,
        rows=config.latency_rows,
        rounds=config.latency_rounds,
        calls=config.latency_calls,
        clock=clock,
    )
    report = {
        **measured_object(config, models),
        "latency": {
            name: {**asdict(latency[name]), "size_bytes": path.stat().st_size}
            for name, path in models.items()
        },
        "onnxruntime": onnxruntime.__version__,
        "hardware": hardware(config.provider),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_durably(reports / REPORT, canonical_json(report))
    return report


def measured_object(config: "ProveConfig", models: Mapping[str, Path]) -> dict[str, Any]:
    """Say what a report is about: another model, provider or batch needs another report."""
    return {
        "models": {name: file_digest(path) for name, path in models.items()},
        "provider": config.provider,
        "threads": config.threads,
        "rows": config.latency_rows,
        "p50_share_max": 1 - config.cheaper_by_min,
    }


def measure_latency(
    runs: Mapping[str, Callable[[Arrays], object]],
    arrays: Arrays,
    *,
    rows: int,
    rounds: int,
    calls: int,
    clock: Clock = time.perf_counter_ns,
) -> dict[str, Latency]:
    """Time calls of `rows` rows, the precisions taking turns call by call.

    What disturbs the machine for a moment then disturbs all of them alike, and since each turn
    begins with another one, no place in the order is the better one. With two busy processes
    beside it this chose the same precision 20 times of 20; blocks of 100 calls 19 times.
    """
    batch = columns.take(arrays, np.resize(np.arange(columns.count_rows(arrays)), rows))
    for run in runs.values():
        for _ in range(WARM_UP_CALLS):
            run(batch)
    times: dict[str, list[list[float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for taken in times.values():
            taken.append([])
        for turn in range(calls):
            for name in _rotate(list(runs), turn):
                times[name][-1].append(_time(runs[name], batch, clock))
    return {
        name: Latency(
            p50_ms=float(np.median(taken)),
            p99_ms=float(np.quantile(taken, 0.99)),
            rows=rows,
            rounds_p50_ms=[float(np.median(part)) for part in taken],
        )
        for name, taken in times.items()
    }


def _rotate(names: Sequence[str], turn: int) -> list[str]:
    first = turn % len(names)
    return [*names[first:], *names[:first]]


def _time(run: Callable[[Arrays], object], batch: Arrays, clock: Clock) -> float:
    start = clock()
    run(batch)
    return (clock() - start) / 1e6
