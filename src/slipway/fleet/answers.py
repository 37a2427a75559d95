"""Measure how far answers lie apart: pure, output by output, whatever their datatype."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Apart:
    """How far the answers of one output lie from others to the same rows."""

    values: int = 0
    """Values that were compared."""
    largest: float = 0.0
    """Largest difference of floating-point numbers."""
    total: float = 0.0
    """Sum of those differences."""
    exact: bool = False
    """Whether there are texts, whole numbers or truth values, which are equal or are not."""
    differing: int = 0
    """How many of these are not equal."""
    misshapen: int = 0
    """Answers whose shape was not that of the others, so that nothing could be compared."""

    def __add__(self, other: "Apart") -> "Apart":
        """Put two measurements of one output together."""
        return Apart(
            values=self.values + other.values,
            largest=max(self.largest, other.largest),
            total=self.total + other.total,
            exact=self.exact or other.exact,
            differing=self.differing + other.differing,
            misshapen=self.misshapen + other.misshapen,
        )

    @property
    def distance(self) -> float:
        """What is held to the tolerance: a class is not nearly another, so one is too many."""
        return float(self.differing) if self.exact else self.largest


def compare(mine: NDArray[Any], theirs: NDArray[Any]) -> Apart:
    """Compare two answers of one output to the same request."""
    if mine.shape != theirs.shape:
        return Apart(misshapen=1)
    if not mine.dtype.kind == theirs.dtype.kind == "f":
        differing = int(np.count_nonzero(mine != theirs))
        return Apart(values=mine.size, exact=True, differing=differing)
    with np.errstate(over="ignore"):
        differences = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
    largest = min(float(np.max(differences, initial=0.0)), sys.float_info.max)  # JSON has no more
    return Apart(mine.size, largest, float(differences.sum()))


def compare_all(
    mine: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]]
) -> dict[str, Apart]:
    """Compare the outputs that both have."""
    return {name: compare(values, theirs[name]) for name, values in mine.items() if name in theirs}


def add(so_far: Mapping[str, Apart], more: Mapping[str, Apart]) -> dict[str, Apart]:
    """Add measurements, output by output."""
    names: Iterable[str] = dict.fromkeys((*so_far, *more))
    return {n: so_far.get(n, Apart()) + more.get(n, Apart()) for n in names}
