"""How rows are parted into those that train, those that stop and choose, and those that test."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slipway.sections import Section
from slipway.settings.kinds import ClassValue, Column, Part

CHOOSING = """Share of the validation part's units that choose among models (families, temperature,
operating point); the others stop the training. A hash decides, so new data cannot move them."""


class Period(Section):
    """Days from `start` up to, not including, `end`."""

    start: date
    """The first day."""
    end: date
    """The day after the last day."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} must be after start {self.start}")
        return self


class TimeSplit(Section):
    """Whole days, the later ones never learned from; a unit is a day."""

    by: Literal["time"]
    """How rows are parted."""
    train: Period
    """Days that the model learns from."""
    validation: Period
    """Days that stop the training and choose; after the training days."""
    test: Period
    """Days that the model is judged on; after the validation days."""
    choose: Annotated[Part, Field(description=CHOOSING)]

    @model_validator(mode="after")
    def _in_time_order(self) -> Self:
        if not self.train.end <= self.validation.start < self.validation.end <= self.test.start:
            raise ValueError("train, validation and test must follow each other in time")
        return self


class _Shares(Section):
    """Shares of the units, by a hash of each; what is left trains."""

    validation: Part
    """Share of the units that stop the training and choose."""
    test: Part
    """Share of the units that the model is judged on."""
    choose: Annotated[Part, Field(description=CHOOSING)]

    @model_validator(mode="after")
    def _some_train(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation:g} and test {self.test:g} leave no rows to train on"
            )
        return self


class RowsSplit(_Shares):
    """Single rows, by a hash of their key; a unit is a row, or rows whose key is the same."""

    by: Literal["rows"]
    """How rows are parted."""


class GroupSplit(_Shares):
    """Whole groups of rows that belong together (a customer, a machine); a unit is a group."""

    by: Literal["group"]
    """How rows are parted."""
    column: Column
    """The column that names a row's group."""


class GivenSplit(Section):
    """As a column of the table says; a unit is a row."""

    by: Literal["given"]
    """How rows are parted."""
    column: Column
    """The column that says which part a row belongs to."""
    train: ClassValue
    """Its value in rows that the model learns from."""
    validation: ClassValue
    """Its value in rows that stop the training and choose."""
    test: ClassValue
    """Its value in rows that the model is judged on."""
    choose: Annotated[Part, Field(description=CHOOSING)]

    @model_validator(mode="after")
    def _three_parts(self) -> Self:
        if len({str(each) for each in (self.train, self.validation, self.test)}) < 3:
            raise ValueError("train, validation and test must be different values")
        return self


SplitConfig = Annotated[TimeSplit | RowsSplit | GroupSplit | GivenSplit, Field(discriminator="by")]
