"""How a pipeline made a model, as far as its stages wrote it down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.problem import BINARY, Measure, Problem
from slipway.wording import compact, score, share

DRIFT_MIN = 0.01
"""A share that moves by less, or a mean by less than this part of it, is not worth a warning."""


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


NOT_MEASURED = Measures()


@dataclass(frozen=True)
class DataPart:
    """One part of the data and what it is for."""

    name: str
    days: str
    """Which rows it holds, for people: its first and last day, or what parts them."""
    rows: float | None
    level: float | None
    """What the problem tells of its target: the share of positives, the mean."""
    dated: bool = False
    """Whether it is some days' rows."""


@dataclass(frozen=True)
class TrainingFacts:
    """How one family's model came about."""

    parameters: float | None = None
    best_step: float | None = None
    stopped: str | None = None


@dataclass(frozen=True)
class LossFacts:
    """How much worse one is than another, and where that lies in 95 of 100."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


BASE = "base"
"""Who looks at no feature, among those that were measured."""

FAMILY_NAMES = {"trees": "Trees", "network": "Network", BASE: "Base"}
"""Families for people."""

ARCHITECTURES = {
    "trees": ("gradient-boosted trees", "boosted trees on category codes and raw numbers"),
    "network": (
        "residual neural network",
        "embeddings of categories and numbers into a residual MLP with an implicit ensemble",
    ),
}
"""Families as model cards have them: the kind, and what it is made of."""


@dataclass(frozen=True)
class Build:
    """What the stages of a pipeline say about themselves; nothing where nothing was written."""

    problem: Problem = BINARY
    rows: float | None = None
    time_range: tuple[str, str] | None = None
    quarantined: float | None = None
    parts: tuple[DataPart, ...] = ()
    shipped: str = ""
    """The family of the model that was chosen."""
    trainings: Mapping[str, TrainingFacts] = field(default_factory=dict)
    """By family."""
    quality: Mapping[str, Measures] = field(default_factory=dict)
    """Of the test rows, by who answered: each family, and `base`."""
    losses: Mapping[str, LossFacts] = field(default_factory=dict)
    """What each family loses against the best one on the rows that choose."""
    slices: Mapping[str, Mapping[str, Measures]] = field(default_factory=dict)
    """By column and value: what describes them, and each family's primary measure."""
    slice_rows_min: int = 0

    @property
    def tested(self) -> Measures:
        """What was measured of the model that was chosen."""
        return self.quality.get(self.shipped, NOT_MEASURED)

    @property
    def peers(self) -> dict[str, Measures]:
        """What was measured of everybody, the model that was chosen first, by names for people."""
        order = sorted(self.quality, key=lambda name: (name != self.shipped, name == BASE))
        return {FAMILY_NAMES.get(name, name): self.quality[name] for name in order}

    def is_telling(self, measured: Measures) -> bool:
        """Tell whether a slice is large enough, and of both classes, to mean something."""
        known = measured[self.shipped] is not None
        return known and (measured.rows or 0) >= self.slice_rows_min

    def telling_slices(self) -> dict[str, list[tuple[str, Measures]]]:
        """Keep the slices that mean something, best first."""
        primary, shipped = self.problem.primary, self.shipped
        found = {}
        for column, values in self.slices.items():
            large = [(value, each) for value, each in values.items() if self.is_telling(each)]
            if large:
                found[column] = sorted(
                    large, key=lambda p: (p[1][shipped] or 0.0) * (-1) ** primary.higher_is_better
                )
        return found

    def limits(self) -> list[str]:
        """Say where the numbers do not carry, from the numbers."""
        found = []
        by_name = {part.name: part for part in self.parts}
        train, test = by_name.get("train"), by_name.get("test")
        if train and test and train.dated and test.dated:
            found.append(
                f"Learned from {train.days}, judged on {test.days}: at other times it may do"
                " otherwise."
            )
        levels = [part.level for part in (train, test) if part and part.level is not None]
        if len(levels) == 2 and self._moves(*levels):
            words = [level_in_words(self.problem, level) for level in levels]
            found.append(
                f"The {self.problem.level.name} moves: {words[0]} in training, {words[1]} in the"
                " test part. Where it moves again, the answers will be off."
            )
        small = [
            f"{column} {value}"
            for column, values in self.slices.items()
            for value, measured in values.items()
            if not self.is_telling(measured)
        ]
        if small:
            found.append(
                f"Too few test rows ({self.slice_rows_min} wanted, that differ) to say anything"
                f" about: {', '.join(small)}."
            )
        found.append("A value that training did not see is answered as unknown, not refused.")
        return found

    def _moves(self, trained: float, tested: float) -> bool:
        """Tell whether a level moves enough to be worth a warning."""
        apart = abs(trained - tested)
        return apart >= (DRIFT_MIN if self.problem.level.is_share else DRIFT_MIN * abs(trained))


def loss_in_words(measure: Measure, lost: float | None) -> str:
    """Write how much worse one is than another: of a measure in the target's unit as a share."""
    return share(lost, 2) if measure.in_unit else score(lost)


def level_in_words(problem: Problem, level: float | None) -> str:
    """Write the one number that people know a target's values by."""
    return share(level) if problem.level.is_share else compact(level)


@dataclass(frozen=True)
class Evidence:
    """What is known about a payload beside its own files."""

    proof: Mapping[str, Any]
    lineage: Mapping[str, Any]
    build: Build | None
    """How a pipeline made it; None for a model that was made elsewhere."""
