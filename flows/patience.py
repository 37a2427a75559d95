"""Try again what may succeed then: a source, a store or a server that did not answer.

Everything else would come out the same: a wrong config, a gate, a training that diverged, a full
disk. Those are tried once.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from slipway.errors import Unavailable

T = TypeVar("T")

PAUSES_S = (5.0, 20.0, 60.0)
"""Between tries: past a restart of a server, and short beside a run."""


def patiently(
    step: Callable[[], T],
    say: Callable[[str], None],
    pauses_s: Sequence[float] = PAUSES_S,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Do a step, again after each pause while it finds something Unavailable."""
    for pause_s in pauses_s:
        try:
            return step()
        except Unavailable as error:
            say(f"{error}; trying again in {pause_s:g} s")
            sleep(pause_s)
    return step()
