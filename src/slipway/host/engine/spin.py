"""Stay awake for a caller who waits for each answer before it asks again.

Between two such requests there is less time than it costs to put a processor to sleep and wake
it (docs/benchmarks.md has both figures). So after a request that came
alone and soon after the one before, the event loop looks at its sockets again and again for a
moment instead of sleeping. Under load, or where requests are rare, nothing of this happens.
"""

import asyncio
import os
from collections.abc import Callable
from time import perf_counter


class Spin:
    """What the engines of one event loop share."""

    def __init__(self, seconds: float, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._seconds = seconds
        """Longest pause between two requests that is spent awake; 0: none."""
        self._ended = 0.0
        self._until = 0.0
        self._awake = False

    def served(self, jobs: int, started: float, ended: float) -> None:
        """Take note of a run on the event loop, of so many requests; times of the clock."""
        # One that began before the last had ended: there is load.
        soon = 0 <= started - self._ended < self._seconds
        self._ended = ended
        if jobs == 1 and soon:
            self._until = ended + self._seconds
            if not self._awake:
                self._awake = True
                self._again()

    def _look(self) -> None:
        os.sched_yield()  # whoever waits for this core goes first
        if self._clock() < self._until:
            self._again()
        else:
            self._awake = False

    def _again(self) -> None:
        asyncio.get_running_loop().call_soon(self._look)
