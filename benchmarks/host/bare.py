"""What the model costs without a server: bare `InferenceSession.run`.

The yardstick of CPU efficiency and of latency. Taken in every round, beside the servers.
"""

import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.host.machine import CORES
from benchmarks.host.peers.specs import SPECS, open_session, rows


@dataclass(frozen=True)
class Bare:
    """One model without a server."""

    rows_per_s: float
    """Rows per second of CPU time, times the cores: the raw limit."""
    run_ms: float
    """Median time of one run of one row, alone, one thread."""
    batch_ms: float
    """Median time of a run of the best batch while every core runs one."""


def measure(folder: Path, model: str, seconds: float = 1.5) -> Bare:
    """Measure one model in little more than `seconds`.

    The raw limit divides by CPU time, not by the clock: hardly moved by what else runs.
    """
    session, spec = open_session(folder / f"{model}.onnx", spin=True), SPECS[model]
    row, batch = {spec.input: rows(model, 1)}, {spec.input: rows(model, spec.bare_rows)}
    for feed in (row, batch):
        session.run(None, feed)  # the first run lays out memory
    alone_s = run_times(session, row, 1, seconds / 4)
    start_s = time.process_time()
    batches_s = run_times(session, batch, CORES, seconds)
    rate = len(batches_s) * spec.bare_rows / (time.process_time() - start_s)
    return Bare(rate * CORES, 1e3 * statistics.median(alone_s), 1e3 * statistics.median(batches_s))


def run_times(session: Any, feed: Any, callers: int, seconds: float) -> list[float]:
    """Run from several threads on one session; return what each run took, in seconds."""
    taken: list[float] = []
    end = time.perf_counter() + seconds

    def call() -> None:
        start = time.perf_counter()
        while start < end:
            session.run(None, feed)
            now = time.perf_counter()
            taken.append(now - start)
            start = now

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken
