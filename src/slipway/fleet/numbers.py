"""Write down what a release measured, for the ledger and the report."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from slipway.fleet.judge import Line, Traffic

ERRORS_SHOWN = 5
"""Kinds of errors that are kept per side; further ones say nothing new."""


def numbers(
    lines: Sequence[Line] = (), candidate: Traffic | None = None, stable: Traffic | None = None
) -> dict[str, Any]:
    """Return every line and each side's own numbers as JSON values."""
    found: dict[str, Any] = {"lines": [asdict(line) for line in lines]} if lines else {}
    sides = {"candidate": candidate, "stable": stable}
    return found | {name: _side(side) for name, side in sides.items() if side is not None}


def _side(traffic: Traffic) -> dict[str, Any]:
    often = sorted(traffic.errors.items(), key=lambda pair: -pair[1])[:ERRORS_SHOWN]
    side = {
        "version": traffic.version,
        "requests": traffic.requests,
        "answered": traffic.answered,
        "failed": traffic.failed,
        "errors": dict(often),
        "rows": traffic.rows,
        "p50_ms": _percentile(traffic, 50),
        "p99_ms": _percentile(traffic, 99),
    }
    if (scored := traffic.scored) is None:
        return side
    return side | {m.key: scored.measure(m) for m in scored.problem.gated}


def _percentile(traffic: Traffic, percent: int) -> float | None:
    if not traffic.latencies_ms.size:
        return None
    return float(np.percentile(traffic.latencies_ms, percent))
