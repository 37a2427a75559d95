"""What is to be predicted: the column, the problem that it poses, and what its values mean."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slipway.sections import Section
from slipway.settings.kinds import ClassValue, Column

CLASSES_MAX = 200
"""More are no classes but names: each would be learned from a handful of rows."""


class BinaryTarget(Section):
    """One of two values."""

    problem: Literal["binary"]
    """Which problem it poses."""
    column: Column
    """The query's column that holds it."""
    positive: ClassValue
    """The value whose probability the model answers."""
    negative: ClassValue
    """The other one."""

    @property
    def classes(self) -> tuple[ClassValue, ...]:
        """Return both values, the positive one last."""
        return self.negative, self.positive

    @model_validator(mode="after")
    def _two_values(self) -> Self:
        if self.positive == self.negative or str(self.positive) == str(self.negative):
            raise ValueError(f"positive and negative are both {self.positive!r}")
        _require_one_type((self.positive, self.negative))
        return self


class MulticlassTarget(Section):
    """One of several values."""

    problem: Literal["multiclass"]
    """Which problem it poses."""
    column: Column
    """The query's column that holds it."""
    classes: Annotated[tuple[ClassValue, ...], Field(min_length=3, max_length=CLASSES_MAX)]
    """The values that it may have, in the order of the model's probabilities."""

    @model_validator(mode="after")
    def _different_values(self) -> Self:
        texts = [str(each) for each in self.classes]
        if twice := sorted({text for text in texts if texts.count(text) > 1}):
            raise ValueError(f"classes given twice: {', '.join(twice)}")
        _require_one_type(self.classes)
        return self


class RegressionTarget(Section):
    """A number."""

    problem: Literal["regression"]
    """Which problem it poses."""
    column: Column
    """The query's column that holds it."""
    unit: str
    """What it counts, for people: dollars, minutes."""

    @property
    def classes(self) -> tuple[ClassValue, ...]:
        """Return no classes."""
        return ()


def _require_one_type(classes: Sequence[ClassValue]) -> None:
    """Refuse what YAML reads as different types: `[1, yes]` is a number and a truth value."""
    kinds = sorted({type(each).__name__ for each in classes})
    if len(kinds) > 1:
        raise ValueError(f"values of different types: {', '.join(kinds)}; put them all in quotes")


TargetConfig = Annotated[
    BinaryTarget | MulticlassTarget | RegressionTarget, Field(discriminator="problem")
]
