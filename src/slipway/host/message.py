"""The common language of transports and core: what is asked, and what is answered."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic] | NDArray[Any]
"""One tensor; text is an object array of str, as the session takes and gives it."""


@dataclass(frozen=True, slots=True)
class InputData:
    """One input as it came: claims that nobody has checked against the contract."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any]
    """Row-major, nested or flat."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request, whatever transport brought it."""

    id: str | None
    """The caller's own; None when it gave none."""
    inputs: tuple[InputData, ...]
    outputs: tuple[str, ...]
    """The outputs asked for, in order; none means all."""


@dataclass(frozen=True, slots=True)
class OutputData:
    """One output, already known to be finite."""

    name: str
    datatype: str
    values: Array


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, and which version gave it."""

    model: str
    version: str
    id: str | None
    """The request's, returned."""
    outputs: tuple[OutputData, ...]
