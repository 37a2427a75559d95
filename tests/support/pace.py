"""How fast this machine is just now, and the limits in seconds that follow from it.

A limit is stated as what suffices on a quiet machine. What it becomes depends on a fixed piece
of work, timed here and now: a machine that is shared, small or emulated gets the time it needs,
and a test fails for what it is about.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

WORK = [sys.executable, "-c", "import asyncio, json, numpy"]
"""What most tests wait for in the end: processes that start and import."""

QUIET_S = 0.15
"""The work on two quiet cores of the machine on which limits were chosen (2026-11: 0.13-0.14 s)."""

MARGIN = 3.0
"""Machines stall for seconds between two measurements, and tests run side by side."""

FRESH_S = 60.0
"""For so long a measurement holds: other programs come and go while tests run."""


@dataclass(frozen=True)
class Pace:
    """How slow the machine was found, and when."""

    slowness: float
    measured_s: float


_latest: Pace | None = None


def limit(seconds: float) -> float:
    """Return how long this machine may take for what needs so many seconds on a quiet one."""
    if _latest is None:
        measure()
    assert _latest
    return seconds * MARGIN * _latest.slowness


def measure() -> None:
    """Find out how many times longer than a quiet machine this one needs, at least 1."""
    global _latest
    times = []
    for _ in range(3):  # one start alone is a matter of luck
        began = time.monotonic()
        subprocess.run(WORK, check=True)
        times.append(time.monotonic() - began)
    _latest = Pace(max(1.0, statistics.median(times) / QUIET_S), time.monotonic())


def pytest_runtest_setup() -> None:
    """Measure anew between tests: within one, half a second might be what it is about."""
    if _latest is None or time.monotonic() - _latest.measured_s > FRESH_S:
        measure()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer than its limit."""
    began = time.monotonic()
    yield
    took_s = time.monotonic() - began
    if took_s > limit(seconds):
        measure()
    allowed_s = limit(seconds)
    assert took_s < allowed_s, f"took {took_s:.1f} s; at this machine's pace {allowed_s:.1f} s"


def cpu_s(work: Callable[[], object], rounds: int = 5) -> float:
    """Return what the cheapest of some rounds costs this thread in computing.

    Programs beside take a core away for a while; they do not make an instruction dearer.
    """
    costs = []
    for _ in range(rounds):
        began = time.thread_time()
        work()
        costs.append(time.thread_time() - began)
    return min(costs)
