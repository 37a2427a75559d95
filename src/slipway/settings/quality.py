"""How good a model must be: limits by the problem's measures."""

from typing import Annotated

from pydantic import Field

from slipway.sections import Section

LossMax = Annotated[float, Field(ge=0)]
"""How much worse than a reference a measure may be: in its own terms, and as a share of the
reference's for one in the target's unit (RMSE, MAE)."""


class QualityLimit(Section):
    """What one measure of quality is held to."""

    worst: float
    """The value that no model may be worse than, whatever the reference says."""
    loss_max: LossMax
    """How much worse than the reference a cheaper precision may be."""
