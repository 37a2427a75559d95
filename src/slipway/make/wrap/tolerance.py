"""Hold what was measured to what may be: a tolerance per output, and a gate per measurement.

The tolerance is how far a host's answers may lie from the recorded ones, so it has to cover
what this machine itself shows, and what another generation of CPUs adds. By default

    tolerance = max(4 x the largest difference measured, floor)
    floor     = rounding steps of the datatype at the largest answer: 64 of FP32 and FP64,
                8 of FP16 and BF16

and a model that moves by more than a hundredth of its largest answer is refused: then its
neighbours in a batch, not its own row, make the answer. What is no floating-point number must
be the same each time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from slipway.bundle.datatypes import Datatype
from slipway.bundle.gate import INVARIANCE, Gate, at_most

MARGIN: Final = 4.0
MOVED_MAX: Final = 0.01
"""As a share of the largest answer."""

FLOORS: Final[Mapping[Datatype, float]] = {
    "FP64": 64 * 2.0**-52,
    "FP32": 64 * 2.0**-23,
    "FP16": 8 * 2.0**-10,
    "BF16": 8 * 2.0**-7,
}

ONE_ROW: Final = "give --one-row, with which rows are never batched"


@dataclass(frozen=True)
class Movement:
    """What one output showed."""

    datatype: Datatype
    magnitude: float
    """Its largest absolute value, at least 1."""
    distances: Mapping[str, float]
    """By measurement: repeatability, batch invariance, padding."""


def choose_tolerance(measured: Movement, asked: float | None) -> float:
    """Return the tolerance of one output."""
    if measured.datatype not in FLOORS:
        return 0.0
    if asked is not None:
        return asked
    found = max(measured.distances.values())
    return max(MARGIN * found, FLOORS[measured.datatype] * measured.magnitude)


def find_problems(name: str, measured: Movement, asked: float | None) -> list[str]:
    """Say which measurements of one output are too far off, and what to do."""
    if measured.datatype not in FLOORS:
        limit, why = 0.0, f"{measured.datatype} must be equal"
    elif asked is not None:
        limit, why = asked, f"--tolerance allows {asked:.3g}"
    else:
        limit = MOVED_MAX * measured.magnitude
        why = f"at most {limit:.3g} can be called the same answer"
    advice = {
        "repeatability": "the model gives other answers to the same row",
        INVARIANCE: f"a row's answer depends on its neighbours; {ONE_ROW}",
        "padding": "the model minds padding: leave out --pad, or pad its mask too",
    }
    return [
        f"output {name!r}: {what} moved it by {found:.3g}, {why}: {advice[what]}"
        for what, found in measured.distances.items()
        if not found <= limit
    ]


def make_gates(measured: Mapping[str, Movement], tolerance: Mapping[str, float]) -> list[Gate]:
    """Hold every measurement to its output's tolerance."""
    return [
        at_most(f"{what} of {name}", found, tolerance[name])
        for name, each in measured.items()
        for what, found in each.distances.items()
    ]
