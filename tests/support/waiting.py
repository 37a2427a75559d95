"""The one loop in which tests wait: for a condition, never for a time."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from tests.support.pace import limit, measure

T = TypeVar("T")

LOOK_S = 0.02
"""Between two looks; a look may be a request or a walk through /proc."""

Words = str | Callable[[], str]
"""What was waited for; called when it did not come, so that it can show what there is instead."""


def wait_until(happened: Callable[[], T], what: Words, within_s: float = 20.0) -> T:
    """Wait until something is true and return it; fail, with `what`, when it takes too long."""
    began = time.monotonic()
    while not (value := happened()):
        _check(began, within_s, what)
        time.sleep(LOOK_S)
    return value


async def eventually(happened: Callable[[], T], what: Words, within_s: float = 5.0) -> T:
    """Wait as `wait_until` does, and let the loop run meanwhile."""
    began = time.monotonic()
    while not (value := happened()):
        _check(began, within_s, what)
        await asyncio.sleep(0.0005)
    return value


def _check(began: float, within_s: float, what: Words) -> None:
    """Fail if it is too late at the pace that the machine has now, not when the wait began."""
    if time.monotonic() - began < limit(within_s):
        return
    measure()
    if time.monotonic() - began > (allowed_s := limit(within_s)):
        words = what if isinstance(what, str) else what()
        raise AssertionError(f"not within {allowed_s:.0f} s: {words}")
