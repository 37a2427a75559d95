"""The common language of transports and core: what is asked, and what is answered."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic] | NDArray[Any]
"""One tensor; text is an object array of str, and BF16 an array of uint16 that holds its bits."""


TEXT_MAX: Final = 256
"""Longest id and longest name."""

TENSORS_MAX: Final = 1024
"""Most inputs and most outputs of one request."""


@dataclass(frozen=True, slots=True)
class InputData:
    """One input as it came: claims that nobody has checked against the contract."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | bytes | memoryview | Array
    """Row-major. A list: JSON values, nested or flat. Bytes: the binary tensor encoding, little
    endian (BYTES: each element after its length, u32). An array: flat and already of numbers."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request, whatever transport brought it."""

    id: str | None
    """The caller's own; None when it gave none."""
    inputs: tuple[InputData, ...]
    outputs: tuple[str, ...]
    """The outputs asked for, in order; none means all."""
    timeout_us: int = 0
    """Not worth answering after so many microseconds; 0: always worth it."""
    priority: int = 0
    """1 goes before all others; 0 and 2 mean normal."""


@dataclass(slots=True)
class OutputData:
    """One output, already known to be finite."""

    name: str
    datatype: str
    values: Array


@dataclass(slots=True)
class Answer:
    """One answer, and which version gave it."""

    model: str
    version: str
    id: str | None
    """The request's, returned."""
    outputs: tuple[OutputData, ...]
