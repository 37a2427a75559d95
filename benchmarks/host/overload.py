"""Our host under a load that does not wait for it: 80 % of capacity, five times it, and after.

Capacity is what wrk gets at 64 connections from the same process a moment before.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.host import closed, openload, payloads
from benchmarks.host.bare import Bare
from benchmarks.host.machine import foreign_share, reading
from benchmarks.host.openload import Answers
from benchmarks.host.records import Record
from benchmarks.host.servers import Running

STEADY, OVERLOAD, AFTER = 0.8, 5.0, 0.5
"""Parts of capacity: the load with a p99 to keep, the flood, and what follows the flood."""
CAPACITY_CONNECTIONS, CAPACITY_S = 64, 3
SETTLE = 0.1
"""Part of the overload that is not counted: the queue fills."""
WINDOW_S = 0.25
BATCHES = 3
"""An answer is in time within so many batch times."""
BUSY = 503
PAUSE_S = 1.0


def withstand(
    running: Running, payload: str, bare: Bare, seconds: float, program: Path, folder: Path
) -> Record:
    """Measure capacity, then send the two planned loads."""
    server = running.server
    request = payloads.request(server.model, payload)
    at_64 = closed.observe(running, payload, CAPACITY_CONNECTIONS, CAPACITY_S, folder)
    capacity = at_64["rps"]
    start = reading(running.pids())
    steady_plan = openload.plan([(STEADY * capacity, seconds)])
    steady = openload.send(program, server.url, request, steady_plan, folder)
    flood = [(OVERLOAD * capacity, seconds), (AFTER * capacity, seconds)]
    both = openload.send(program, server.url, request, openload.plan(flood), folder)
    generator_s = steady.client_cpu_s + both.client_cpu_s
    foreign = foreign_share(start, reading(running.pids()), generator_s)
    return {
        "what": "open", "server": server.name, "model": server.model, "payload": payload,
        "capacity_rps": capacity, "foreign": larger(at_64["foreign"], foreign),
        "capacity_client_cores": at_64["client_us"] * capacity / 1e6,
        **steady_figures(steady, seconds), **flood_figures(both, seconds, bare),
        **{f"bare_{k}": v for k, v in asdict(bare).items()},
    }  # fmt: skip


def larger(*shares: float | None) -> float | None:
    """Take the larger share; None where one is not known."""
    return None if None in shares else max(share for share in shares if share is not None)


def steady_figures(seen: Answers, seconds: float) -> Record:
    """Sum up the load below capacity; an answer that never came counts as endless."""
    latency = np.where(seen.status == 200, seen.latency_ms, np.inf)
    return {
        "steady_requests": len(latency), "steady_answered": float((seen.status == 200).mean()),
        "steady_p50_ms": percentile(latency, 50), "steady_p99_ms": percentile(latency, 99),
        "steady_lag_p99_ms": percentile(seen.lag_ms, 99),
        "steady_client_cores": seen.client_cpu_s / seconds,
    }  # fmt: skip


def flood_figures(seen: Answers, seconds: float, bare: Bare) -> Record:
    """Sum up the overload and what follows it.

    The generator's CPU time is shared out by requests: the flood has most of them.
    """
    flood = seen.between(0, seconds)
    refused = flood.latency_ms[flood.status == BUSY]
    accepted = flood.latency_ms[flood.status == 200]
    other = (flood.status != BUSY) & (flood.status != 200)
    return {
        "goodput_rps": goodput(seen, SETTLE * seconds, seconds),
        "rejects": len(refused), "reject_p50_ms": percentile(refused, 50),
        "reject_p99_ms": percentile(refused, 99), "reject_max_ms": percentile(refused, 100),
        "accepted_p99_ms": percentile(accepted, 99), "other_answers": int(other.sum()),
        "overload_lag_p99_ms": percentile(flood.lag_ms, 99),
        "overload_client_cores": seen.client_cpu_s * len(flood.status) / len(seen.status) / seconds,
        "recovery_s": recovery_s(seen, seconds, 2 * seconds, BATCHES * bare.batch_ms),
    }  # fmt: skip


def goodput(seen: Answers, start_s: float, end_s: float) -> float:
    """Count the good answers that arrived in a window, per second."""
    good = seen.status == 200
    done_s = seen.due_s[good] + seen.latency_ms[good] / 1e3
    return float(((done_s >= start_s) & (done_s < end_s)).sum() / (end_s - start_s))


def recovery_s(seen: Answers, start_s: float, end_s: float, limit_ms: float) -> float:
    """Say how long after `start_s` the last bad window ends.

    A window is bad when a request due in it was not answered, or half of them came late.
    """
    recovered = 0.0
    for index in range(int((end_s - start_s) / WINDOW_S)):
        begin = start_s + index * WINDOW_S
        window = seen.between(begin, begin + WINDOW_S)
        good = window.status == 200
        if len(good) and not (good.all() and np.median(window.latency_ms) <= limit_ms):
            recovered = begin + WINDOW_S - start_s
    return recovered


def percentile(values: np.ndarray, part: float) -> float | None:
    """Take a percentile that was seen, without interpolation; None of nothing or of endless."""
    if not len(values):
        return None
    found = float(np.percentile(values, part, method="higher"))
    return found if np.isfinite(found) else None
