"""The exported forms of a model, each named once; a new one is one entry here and one conversion.

A precision is called by its name in files, paths and records, and by its keyword where Python
needs an identifier (a section of the config).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Precision:
    """One exported form of a model."""

    name: str
    converted: bool
    """Made from the reference by a conversion that may fail."""

    @property
    def keyword(self) -> str:
        """Its name as an identifier."""
        return self.name.replace("-", "_")


FP32: Final = Precision("fp32", converted=False)
INT8_STATIC: Final = Precision("int8-static", converted=True)
INT8_DYNAMIC: Final = Precision("int8-dynamic", converted=True)

PRECISIONS: Final = {each.name: each for each in (FP32, INT8_STATIC, INT8_DYNAMIC)}
"""In the order in which they are proven; the first is what the others are compared with."""

_NAMES: Final = {each.keyword: each.name for each in PRECISIONS.values()}


def name_of(keyword: str) -> str:
    """Return the precision's name for its keyword; any other identifier stays as it is."""
    return _NAMES.get(keyword, keyword)


REFERENCE: Final = FP32.name
"""What every other precision is compared with, and what stays unless one clearly beats it."""

AS_MADE: Final = "as-made"
"""The one form of a model that was made elsewhere: nothing was converted."""
