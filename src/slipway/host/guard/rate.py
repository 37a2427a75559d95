"""Hold one key to its rate and to its quota of the day.

Both count rows, because a row is what costs. The rate is a token bucket; a request with more
rows than the bucket holds passes when the bucket is full and leaves a debt, so that a batch is
slower on average and not impossible. The quota is of one host: a fleet of n hosts lets through
n times as much. Of the processes of one host each has its part. A refusal takes nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

DAY_S: Final = 86_400


@dataclass(frozen=True)
class RateLimits:
    """What one key may use."""

    rate_per_s: float | None
    """Rows per second on average; None: no limit."""
    burst: int
    """Rows at once after a pause."""
    rows_per_day: int | None
    """Rows per UTC day; None: no limit."""

    def divide(self, parts: int) -> "RateLimits":
        """Return the part of one of so many processes; at least one row each."""
        rate, rows = self.rate_per_s, self.rows_per_day
        return RateLimits(
            rate_per_s=None if rate is None else rate / parts,
            burst=max(1, self.burst // parts),
            rows_per_day=None if rows is None else max(1, rows // parts),
        )


@dataclass(frozen=True)
class Used:
    """What was taken of a quota; outlives a restart."""

    day: int
    """Days since 1970 in UTC."""
    rows: int


class Allowance:
    """The meter of one key. Asked on each request: no lock, no timer, no loop."""

    def __init__(
        self,
        limits: RateLimits,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        """Replaced when the file of keys changes; what was taken stays taken."""
        self._clock = clock
        self._wall = wall
        self._level = float(limits.burst)
        self._at = clock()
        self._day = int(wall() // DAY_S)
        self._rows = 0

    @property
    def used(self) -> Used:
        """What was taken of the quota; set after a restart to what it was before."""
        return Used(self._day, self._rows)

    @used.setter
    def used(self, used: Used) -> None:
        self._day, self._rows = used.day, used.rows

    def take(self, rows: int) -> float:
        """Take rows; return 0.0, or the seconds until there are some again."""
        wait_s = self._quota_wait_s(rows) or self._rate_wait_s(rows)
        if wait_s > 0:
            return wait_s
        self._level -= rows
        self._rows += rows
        return 0.0

    def _quota_wait_s(self, rows: int) -> float:
        """Begin a new day when the date differs, even backwards: a clock put right heals it."""
        now = self._wall()
        day = int(now // DAY_S)
        if day != self._day:
            self._day, self._rows = day, 0
        most = self.limits.rows_per_day
        if most is None or self._rows + rows <= most:
            return 0.0
        return (day + 1) * DAY_S - now

    def _rate_wait_s(self, rows: int) -> float:
        rate, burst = self.limits.rate_per_s, self.limits.burst
        if rate is None:
            self._level = float(burst)
            return 0.0
        now = self._clock()
        self._level = min(burst, self._level + (now - self._at) * rate)
        self._at = now
        return max(0.0, (min(rows, burst) - self._level) / rate)
