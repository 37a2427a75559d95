"""What all processes of a host counted, as one.

Prometheus takes a counter that falls for one that began anew, and would count all of it again.
So nothing here ever falls: of a process that ended, what was last told stays in the sum, and so
it does for one that does not answer. What it counted after that is lost with it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from slipway.host.observe.merge import Families, MetricFamily, merge, parse, past, render

Ask = Callable[[int], Awaitable[bytes]]
"""Return the metrics of one process; raises OSError if it does not answer."""


@dataclass
class _Process:
    """What is known of one process, and of those that had its place before."""

    ended: Families = field(default_factory=dict)
    seen: Families = field(default_factory=dict)
    restarts: int = 0


class ProcessTotals:
    """The metrics of a host of several processes."""

    def __init__(self, processes: int, ask: Ask) -> None:
        self._processes = [_Process() for _ in range(processes)]
        self._ask = ask
        self._one_at_a_time = asyncio.Lock()  # two answers of one process must not swap places
        self._refused: dict[str, int] = {}

    @property
    def restarts(self) -> list[int]:
        """How often each process was started again."""
        return [process.restarts for process in self._processes]

    def restarted(self, number: int) -> None:
        """Keep what a process that ended has counted; another one takes its place."""
        process = self._processes[number]
        process.ended = merge([process.ended, past(process.seen)])
        process.seen = {}
        process.restarts += 1

    def refuse(self, code: str) -> None:
        """Count what the supervisor itself did not answer."""
        self._refused[code] = self._refused.get(code, 0) + 1

    async def collect(self) -> bytes:
        """Ask all processes and return the text for Prometheus."""
        async with self._one_at_a_time:
            numbers = range(len(self._processes))
            answered = await asyncio.gather(*map(self._look, numbers))
            parts = [part for p in self._processes for part in (p.seen, p.ended)]
            return render(merge([self._own(answered.count(False)), *parts]))

    async def _look(self, number: int) -> bool:
        """Take what one process counted so far; return whether it told."""
        process = self._processes[number]
        before = process.restarts
        try:
            seen = parse(await self._ask(number))
        except (OSError, ValueError):
            process.seen = past(process.seen)
            return False
        if process.restarts == before:  # else it ended after its answer, which nobody has heard
            process.seen = seen
        return True

    def _own(self, silent: int) -> Families:
        restarts = MetricFamily("counter", "Processes that ended and were started again.")
        for number, count in enumerate(self.restarts):
            restarts.samples[f'slipway_process_restarts_total{{process="{number}"}}'] = count
        errors = MetricFamily(
            "counter", "Refused requests of every kind, those that name no model too."
        )
        for code, count in self._refused.items():
            errors.samples[f'slipway_errors_total{{code="{code}"}}'] = count
        silence = MetricFamily(
            "gauge", "Processes that did not tell; what they told last is counted."
        )
        silence.samples["slipway_processes_silent"] = silent
        return {
            "slipway_errors_total": errors,
            "slipway_process_restarts_total": restarts,
            "slipway_processes_silent": silence,
        }
