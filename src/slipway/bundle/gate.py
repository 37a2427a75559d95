"""A gate: one measured value, what it is held to, and the words for what follows."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Verdict = Literal["pass", "fail"]

PASS: Final = "pass"  # noqa: S105 - a verdict, no password
FAIL: Final = "fail"
NOT_MADE: Final = "not made"
"""Of a precision that there is no model of."""

PrecisionVerdict = Literal["pass", "fail", "not made"]

INVARIANCE: Final = "batch invariance"
"""The gate that the contract's promise to callers is taken from."""

PARITY: Final = "parity"
"""Begins the names of gates that hold answers to those of a reference."""

Bound = Literal["max", "min"]

SIGNS: Final[dict[str, str]] = {"max": "≤", "min": "≥"}
"""How people read a bound."""


@dataclass(frozen=True)
class Gate:
    """One measure of one precision, and what it is held to."""

    gate: str
    measured: float | None
    """None: the answers gave no number."""
    limit: float
    bound: Bound
    verdict: Verdict


def at_most(gate: str, measured: float | None, limit: float) -> Gate:
    """Hold a measure to an upper limit; what is no number fails."""
    good = measured is not None and measured <= limit
    return Gate(gate, _finite(measured), limit=limit, bound="max", verdict=PASS if good else FAIL)


def at_least(gate: str, measured: float | None, limit: float) -> Gate:
    """Hold a measure to a lower limit; what is no number fails."""
    good = measured is not None and measured >= limit
    return Gate(gate, _finite(measured), limit=limit, bound="min", verdict=PASS if good else FAIL)


def worst_share(rounds_ms: Sequence[float], reference_ms: Sequence[float]) -> float:
    """Return the largest share of the reference's time that any round took."""
    return max(ours / theirs for ours, theirs in zip(rounds_ms, reference_ms, strict=True))


def verdict(gates: Sequence[Gate]) -> dict[str, Any]:
    """Sum up a precision's gates as gates.json has it."""
    failed = [gate.gate for gate in gates if gate.verdict == FAIL]
    return {
        "verdict": FAIL if failed else PASS,
        "reason": f"outside its limit: {', '.join(failed)}" if failed else None,
        "gates": [asdict(gate) for gate in gates],
    }


def _finite(measured: float | None) -> float | None:
    return measured if measured is not None and math.isfinite(measured) else None
