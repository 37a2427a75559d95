"""The form of a problem: its target, its answer, and the measures that judge one by the other."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slipway.errors import SlipwayError

Labels = NDArray[Any]
"""What came true, one value per row."""

Answers = NDArray[Any]
"""What a model said, one value per row."""


@dataclass(frozen=True)
class Measure:
    """One number that says how good answers are."""

    key: str
    """Its name in files: metrics, training history, ledger."""
    name: str
    """Its name for people, in the middle of a sentence; a gate is called by it."""
    higher_is_better: bool
    formula: Callable[[Labels, Answers], float | None]

    def __call__(self, labels: Labels, answers: Answers) -> float | None:
        """Measure; None where these rows cannot tell, NaN where an answer is no number."""
        if not np.isfinite(answers).all():
            return float("nan")
        return self.formula(labels, answers)

    @property
    def title(self) -> str:
        """Its name at the head of a row or a picture."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def worse(self) -> str:
        """The word for a change to the worse."""
        return "drop" if self.higher_is_better else "rise"

    def loss(self, measured: float, reference: float) -> float:
        """Return how much worse than the reference; negative where it is better."""
        return reference - measured if self.higher_is_better else measured - reference

    def worst_allowed(self, reference: float, loss_max: float) -> float:
        """Return the value that is worse than the reference by just `loss_max`."""
        return reference - loss_max if self.higher_is_better else reference + loss_max

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
    """The output contract: what a model of this problem answers, one value per row."""

    name: str
    datatype: Literal["FP32"]
    range: tuple[float, float]


@dataclass(frozen=True)
class Problem:
    """What a target must look like, what answers it, and what judges the answers."""

    name: str
    task: str
    """The field's name for it."""
    output: OutputForm
    measures: tuple[Measure, ...]
    """All that are reported, the most telling first."""
    gated: tuple[Measure, ...]
    """Those that gates, the canary and training curves hold a model to."""
    primary: Measure
    """The one that slices and models are compared by."""
    stopping: Measure
    """The one whose best value on the validation rows is kept in training."""
    find_target_fault: Callable[[set[str], str], str | None]
    """Say what is wrong with a target that holds these values somewhere; None if nothing is."""
    describe: Callable[[Labels], dict[str, float]]
    """Sum up a target's values in the numbers that people know them by."""
    baseline: Callable[[Labels], float]
    """The one answer to every row that a model which looks at none would learn."""
    interval: Callable[[float, Mapping[str, Any]], tuple[float, float] | None]
    """Give the 95 % interval of the primary measure on rows that were described; None where it
    cannot be told."""
    calibration: Callable[[Labels, Answers, int], list[CalibrationBin]]
    """Compare what was said with what came true, in so many bins."""

    def check_target(self, values: Iterable[object], name: str, where: str) -> None:
        """Refuse a target that leaves nothing to learn or measure; takes its different values."""
        if fault := self.find_target_fault({str(value) for value in values}, where):
            raise SlipwayError(f"label {name!r} {fault}")

    def measure(self, labels: Labels, answers: Answers) -> dict[str, float | None]:
        """Return every reported measure by its key."""
        return {each.key: each(labels, answers) for each in self.measures}

    def measure_gated(self, labels: Labels, answers: Answers) -> dict[str, float]:
        """Return the gated measures by their keys, on rows that passed `check_target`."""
        found = {each.key: each(labels, answers) for each in self.gated}
        return {key: value for key, value in found.items() if value is not None}
