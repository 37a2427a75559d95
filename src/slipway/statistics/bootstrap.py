"""Intervals of 95 % around what two models differ by on the same rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ROUNDS: Final = 400
"""Percentiles of so many resamples move by a tenth of the interval's half width from seed to seed
(Efron and Tibshirani 1993, section 13.3, ask for 200 to 1,000)."""

ROW_ROUNDS_MAX: Final = 20_000_000
"""With more rows fewer rounds do: the interval is narrow then, and so is what its ends move by."""

ROUNDS_MIN: Final = 100


@dataclass(frozen=True)
class Interval:
    """What was measured, and where it lies in 95 of 100."""

    value: float
    low: float
    high: float


def paired(
    differ: Callable[[NDArray[Any]], float | None],
    units: NDArray[np.int64],
    weights: NDArray[Any] | None = None,
) -> Interval | None:
    """Bootstrap what two models differ by; `differ` is given how much each row counts.

    Units (days, groups) are drawn, not rows, as rows of one unit resemble each other; each counts
    as often as a Poisson variable of mean 1 says, which is the multinomial bootstrap in the limit
    (Hanley and MacGibbon 2006) and leaves every row in its place. The seed is fixed. None where
    nothing can be told.
    """
    base = np.ones(units.size) if weights is None else np.asarray(weights, np.float64)
    whole = differ(base)
    if whole is None:
        return None
    places = np.unique(units, return_inverse=True)[1]
    if not places.any():  # one unit tells nothing of how others differ
        return None
    rounds = int(np.clip(ROW_ROUNDS_MAX // max(units.size, 1), ROUNDS_MIN, ROUNDS))
    dice, found = np.random.default_rng(1), []
    for _ in range(rounds):
        drawn = dice.poisson(1.0, int(places.max()) + 1)[places] * base
        if drawn.any() and (one := differ(drawn)) is not None and np.isfinite(one):
            found.append(one)
    if not found:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(whole, float(low), float(high))
