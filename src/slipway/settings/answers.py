"""What is answered beside the bare prediction: a decision, an interval."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from slipway.sections import Section
from slipway.settings.kinds import Part


class OperatingPoint(Section):
    """How a probability becomes a decision: one of four rules, kept on the rows that choose."""

    cost_ratio: Annotated[float, Field(gt=0)] | None = None
    """How many false alarms one missed positive is worth."""
    precision: Part | None = None
    """The share of positive decisions that must be right."""
    recall: Part | None = None
    """The share of positives that must be found."""
    share: Part | None = None
    """The share of rows that may be decided positive."""

    @property
    def rule(self) -> tuple[str, float]:
        """Return the rule's name and its value."""
        [found] = [(k, v) for k, v in self.model_dump().items() if v is not None]
        return found

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [name for name, value in self.model_dump().items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                "needs one of cost_ratio, precision, recall, share;"
                f" got {' and '.join(given) or 'none'}"
            )
        return self


class AnswerConfig(Section):
    """What a model answers beside a probability or a number."""

    operating_point: OperatingPoint | None
    """Answer a `label` too; of two classes by this rule. Null: no decision is stated."""
    interval: Part | None
    """Answer `lower` and `upper` too, between which this share of the numbers lies."""
