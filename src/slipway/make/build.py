"""How a pipeline made a model, as far as its stages wrote it down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.problem import BINARY, Problem
from slipway.wording import share

DRIFT_MIN = 0.01
"""A base rate that moves by less than this is not worth a warning."""


@dataclass(frozen=True)
class Measures:
    """What was measured of some rows, by the measures' keys; None of what was not."""

    values: Mapping[str, int | float | None] = field(default_factory=dict)
    """`rows` and what the problem describes are among them."""

    def __getitem__(self, key: str) -> int | float | None:
        return self.values.get(key)

    @property
    def rows(self) -> int | float | None:
        """How many rows they are."""
        return self["rows"]

    @property
    def base_rate(self) -> float | None:
        """The share of positives among them."""
        return self["base_rate"]


NOT_MEASURED = Measures()


@dataclass(frozen=True)
class DataPart:
    """One part of the data and what it is for."""

    name: str
    days: str
    """Its first and last day, for people."""
    rows: float | None
    base_rate: float | None


@dataclass(frozen=True)
class Build:
    """What the stages of a pipeline say about themselves; nothing where nothing was written."""

    problem: Problem = BINARY
    rows: float | None = None
    time_range: tuple[str, str] | None = None
    quarantined: float | None = None
    parts: tuple[DataPart, ...] = ()
    parameters: float | None = None
    best_step: float | None = None
    stopped: str | None = None
    quality: Mapping[str, Measures] = field(default_factory=dict)
    """Of the test rows, by who answered: `test` (the model), `tree`, `base`."""
    slices: Mapping[str, Mapping[str, Measures]] = field(default_factory=dict)
    """By column and value."""
    slice_rows_min: int = 0

    def is_telling(self, measured: Measures) -> bool:
        """Tell whether a slice is large enough, and of both classes, to mean something."""
        known = measured[self.problem.primary.key] is not None
        return known and (measured.rows or 0) >= self.slice_rows_min

    def telling_slices(self) -> dict[str, list[tuple[str, Measures]]]:
        """Keep the slices that mean something, best first."""
        primary = self.problem.primary
        found = {}
        for column, values in self.slices.items():
            large = [(value, each) for value, each in values.items() if self.is_telling(each)]
            if large:
                found[column] = sorted(
                    large, key=lambda p: primary.loss(p[1][primary.key] or 0.0, 0.0)
                )
        return found

    def limits(self) -> list[str]:
        """Say where the numbers do not carry, from the numbers."""
        found = []
        by_name = {part.name: part for part in self.parts}
        train, test = by_name.get("train"), by_name.get("test")
        if train and test and train.days and test.days:
            found.append(
                f"Learned from {train.days}, judged on {test.days}: at other times it may do"
                " otherwise."
            )
        rates = [part.base_rate for part in (train, test) if part and part.base_rate is not None]
        if len(rates) == 2 and abs(rates[0] - rates[1]) >= DRIFT_MIN:
            found.append(
                f"The share of positives moves: {share(rates[0])} in training, {share(rates[1])} in"
                " the test days. Where it moves again, the probabilities will be off."
            )
        small = [
            f"{column} {value}"
            for column, values in self.slices.items()
            for value, measured in values.items()
            if not self.is_telling(measured)
        ]
        if small:
            found.append(
                f"Too few test rows ({self.slice_rows_min} wanted, of both classes) to say anything"
                f" about: {', '.join(small)}."
            )
        found.append("A value that training did not see is answered as unknown, not refused.")
        return found


@dataclass(frozen=True)
class Evidence:
    """What is known about a payload beside its own files."""

    proof: Mapping[str, Any]
    lineage: Mapping[str, Any]
    build: Build | None
    """How a pipeline made it; None for a model that was made elsewhere."""
