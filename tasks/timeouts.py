"""End a stage that takes longer than dvc.yaml lets it: `meta: {timeout_s: 3600}`.

Under a flow its supervisor sees to that. This is for a bare `dvc repro`: a signal in the stage's
own process, which a library that computes for minutes answers only when it is done.
"""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from slipway.errors import ConfigError, SlipwayError


def timeout_of(address: str, meta: Mapping[str, Any]) -> float | None:
    """Read a stage's timeout; None where there is none."""
    value = meta.get("timeout_s")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        problem = f"{address}: meta.timeout_s must be a number greater than 0, got {value!r}"
        raise ConfigError("dvc.yaml", [problem])
    return float(value)


def too_long(timeout_s: float) -> str:
    """Say what a stage failed by that was stopped."""
    return f"took longer than its timeout of {timeout_s:g} s (`timeout_s` in dvc.yaml)"


@contextmanager
def limited(timeout_s: float | None) -> Iterator[None]:
    """Raise SlipwayError in the main thread when the block has taken too long."""
    if timeout_s is None:
        yield
        return

    def expired(number: int, frame: FrameType | None) -> None:
        raise SlipwayError(too_long(timeout_s))

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
