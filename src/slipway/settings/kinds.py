"""Kinds of values that several sections take."""

from typing import Annotated

from pydantic import Field, StrictBool, StrictInt, StrictStr

Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""A column of the query's result."""

Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, lt=1)]
"""A share that is neither nothing nor all."""
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy, scikit-learn, LightGBM and torch all take."""

ClassValue = StrictBool | StrictInt | StrictStr
"""One of the values that a target may have, in its own type."""
