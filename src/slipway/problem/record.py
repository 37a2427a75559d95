"""The form of a problem: its target, its answer, and the measures that judge one by the other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipway.errors import SlipwayError

Labels = NDArray[Any]
"""What came true, one number per row: which class (its place in `Target.classes`), or the number
itself. Negative, or NaN, where nobody knows."""

Answers = NDArray[Any]
"""What a model said: a number per row, or one per row and class."""

Scores = NDArray[Any]
"""What a model's core gives, [N, K]: logits of the classes, one of two, or the number itself."""

Weights = NDArray[Any] | None
"""How much each row counts; None: all alike."""

Class: TypeAlias = bool | int | str
"""One value of a target that is one of several, in its own type."""

NOTHING_SHOWN_BEYOND = 5
"""Values of a faulty target that a message names."""


@dataclass(frozen=True)
class Target:
    """The column to be predicted, and what its values stand for."""

    name: str
    problem: str
    classes: tuple[Class, ...] = ()
    """The values that it may have, in the order of a model's answers; of two, the last one is the
    one whose probability is told. None for a number."""

    def encode(self, values: Iterable[object]) -> Labels:
        """Turn values of the target's own type into labels, what is unknown (None) too."""
        values = values.tolist() if isinstance(values, np.ndarray) else values
        if not self.classes:
            numbers = [np.nan if v is None else float(v) for v in values]  # type: ignore[arg-type]
            return np.array(numbers, np.float64)
        places: dict[tuple[type, object], int]
        places = {(type(each), each): i for i, each in enumerate(self.classes)}
        return np.array([places.get((type(v), v), -1) for v in values], np.int64)

    def decode(self, labels: Labels) -> list[Class | float]:
        """Turn labels back into values of the target's own type."""
        if not self.classes:
            return [float(each) for each in labels]
        return [self.classes[int(each)] for each in labels]


@dataclass(frozen=True)
class TargetValues:
    """What a target holds in some rows."""

    kind: Literal["whole number", "number", "truth value", "text", "other"]
    rows: int
    missing: int = 0
    not_finite: int = 0
    counts: Mapping[object, int] = field(default_factory=dict)
    """Rows of each value, of so many values as a message could name at most."""
    more_values: bool = False
    """Whether there are more values than `counts` has."""


@dataclass(frozen=True)
class Measure:
    """One number that says how good answers are."""

    key: str
    """Its name in files: metrics, training history, ledger."""
    name: str
    """Its name for people, in the middle of a sentence; a gate is called by it."""
    higher_is_better: bool
    formula: Callable[[Labels, Answers, Weights], float | None]
    in_unit: bool = False
    """Whether it is in the target's own unit: how much worse one is than another is told as a
    share then, for nobody else knows how much a dollar or a degree is."""

    def __call__(self, labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
        """Measure; None where these rows cannot tell, NaN where an answer is no number."""
        if weights is not None and not weights.any():
            return None
        if not np.isfinite(answers).all():
            return float("nan")
        return self.formula(labels, answers, weights)

    @property
    def title(self) -> str:
        """Its name at the head of a row or a picture."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def worse(self) -> str:
        """The word for a change to the worse."""
        return "drop" if self.higher_is_better else "rise"

    def loss(self, measured: float, reference: float) -> float:
        """Return how much worse than the reference; negative where it is better.

        A share of the reference for a measure in the target's unit.
        """
        lost = reference - measured if self.higher_is_better else measured - reference
        if not self.in_unit or lost == 0:
            return lost
        return lost / abs(reference) if reference else float("inf") * lost

    def worst_allowed(self, reference: float, loss_max: float) -> float:
        """Return the value that is worse than the reference by just `loss_max`."""
        lost = loss_max * abs(reference) if self.in_unit else loss_max
        return reference - lost if self.higher_is_better else reference + lost

    def at_least_as_good(self, measured: float, limit: float) -> bool:
        """Tell whether a measured value reaches a limit; what is no number does not."""
        return measured >= limit if self.higher_is_better else measured <= limit

    def best(self, values: Iterable[float]) -> float:
        """Return the best of several values."""
        return max(values) if self.higher_is_better else min(values)


@dataclass(frozen=True)
class CalibrationBin:
    """Rows of similar answers: what was said of them on average, and what came true."""

    predicted: float
    observed: float
    rows: int


@dataclass(frozen=True)
class OutputForm:
    """The output contract: what a model of this problem answers, one row of it per row."""

    name: str
    datatype: Literal["FP32"]
    range: tuple[float, float] | None
    per_class: bool = False
    """Whether there is one value per class."""

    def shape(self, target: Target) -> list[int]:
        """Return the tensor's shape; -1: any number of rows."""
        return [-1, len(target.classes)] if self.per_class else [-1]


@dataclass(frozen=True)
class Level:
    """The one number that people know a target's values by."""

    key: str
    """Its name among what `describe` gives."""
    name: str
    """Its name for people, in the middle of a sentence."""
    is_share: bool

    @property
    def title(self) -> str:
        """Its name at the head of a column."""
        return self.name[:1].upper() + self.name[1:]


@dataclass(frozen=True)
class Problem:
    """What a target must look like, what answers it, and what judges the answers."""

    name: str
    task: str
    """The field's name for it."""
    output: OutputForm
    """What labels judge; a model may answer more beside it."""
    measures: tuple[Measure, ...]
    """All that are reported, the most telling first."""
    gated: tuple[Measure, ...]
    """Those that gates and the canary hold a model to."""
    primary: Measure
    """The one that slices and models are compared by."""
    stopping: Measure
    """The one whose best value on the stop rows is kept in training."""
    find_target_fault: Callable[[Target, TargetValues, str], str | None]
    """Say what is wrong with a target that holds these values somewhere; None if nothing is."""
    respond: Callable[[Scores, float], Answers]
    """Turn scores into answers, at a temperature."""
    describe: Callable[[Labels, Weights], dict[str, float]]
    """Sum up a target's values in the numbers that people know them by."""
    level: Level
    """What of that description is shown where there is room for one number."""
    baseline: Callable[[Labels, Target, Weights], NDArray[np.float64]]
    """The one answer to every row that a model which looks at none would learn."""
    interval: Callable[[float, Mapping[str, Any]], tuple[float, float] | None]
    """Give the 95 % interval of the primary measure on rows that were described; None where it
    cannot be told."""
    calibration: Callable[[Labels, Answers, int], list[CalibrationBin]]
    """Compare what was said with what came true, in so many bins."""

    def count_scores(self, target: Target) -> int:
        """Return how many scores a core gives per row."""
        return len(target.classes) if self.output.per_class else 1

    def check_target(self, target: Target, values: TargetValues, where: str) -> None:
        """Refuse a target that leaves nothing to learn or measure."""
        if fault := self.find_target_fault(target, values, where):
            raise SlipwayError(f"target {target.name!r} {fault}")

    def measure(
        self, labels: Labels, answers: Answers, weights: Weights = None
    ) -> dict[str, float | None]:
        """Return every reported measure by its key."""
        return {each.key: each(labels, answers, weights) for each in self.measures}

    def measure_watched(
        self, labels: Labels, answers: Answers, weights: Weights = None
    ) -> dict[str, float]:
        """Return the measures that a training is followed by, where these rows can tell."""
        watched = dict.fromkeys((*self.gated, self.stopping))
        found = {each.key: each(labels, answers, weights) for each in watched}
        return {key: value for key, value in found.items() if value is not None}


def mean(values: NDArray[Any], weights: Weights) -> float:
    """Average, by weight where rows have one."""
    if weights is None:
        return float(values.mean(dtype=np.float64))
    if not weights.any():
        return float("nan")
    return float(np.average(values.astype(np.float64), weights=weights))


def shown(values: Iterable[object]) -> str:
    """List some values for people."""
    texts = sorted(str(value) for value in values)
    more = len(texts) - NOTHING_SHOWN_BEYOND
    return ", ".join(texts[:NOTHING_SHOWN_BEYOND]) + (f" and {more} more" if more > 0 else "")


def find_class_fault(
    target: Target, values: TargetValues, where: str, wanted: Sequence[Class]
) -> str | None:
    """Say what is wrong with values that are to be classes, all of `wanted` among them."""
    if values.missing:
        return (
            f"has no value in {values.missing:,} of {values.rows:,} rows of {where}; leave them out"
            f" in ingest.query (WHERE {target.name} IS NOT NULL)"
        )
    known = {(type(each), each) for each in target.classes}
    if strangers := [v for v in values.counts if (type(v), v) not in known]:
        named = shown(repr(each) for each in target.classes)
        found = shown(repr(each) for each in strangers)
        return f"must hold {named} only in {where}, found {found}{_by_type(target, strangers)}"
    if absent := [each for each in wanted if each not in values.counts]:
        found = shown(repr(each) for each in values.counts) or "none"
        return (
            f"must hold {shown(repr(each) for each in wanted)} in {where}, found only {found};"
            f" there is no row of {shown(repr(each) for each in absent)}"
        )
    return None


def _by_type(target: Target, strangers: Sequence[object]) -> str:
    """Point at values that differ from the config's by their type alone."""
    names = {str(each) for each in target.classes}
    if not {str(each) for each in strangers} <= names:
        return ""
    kinds = {type(each).__name__ for each in strangers}
    return f"; they are of the type {shown(kinds)} there: write them so in ingest.target"
