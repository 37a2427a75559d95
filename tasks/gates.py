"""The gates: what is measured of a precision, what it is held to, and which one is chosen.

Pure: arrays and numbers in, verdicts out. Nothing here knows files or clocks, so the same
answers always give the same `gates.json`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tasks import columns
from tasks.columns import Arrays

FP32 = "fp32"

Answer = Callable[[Arrays], np.ndarray]
"""Give the probabilities [N] of a batch of rows."""

INVARIANCE_ROWS = 512
INVARIANCE_BATCHES = (7, 64, 256)
"""Sizes that no kernel's tile divides evenly, and those that hosts really build."""


@dataclass(frozen=True)
class Gate:
    """One measure of one precision, and what it is held to."""

    gate: str
    measured: float | None
    """None: the answers gave no number."""
    limit: float
    bound: Literal["max", "min"]
    verdict: Literal["pass", "fail"]


@dataclass(frozen=True)
class Limits:
    """What every precision is held to on the golden set; see ProveConfig."""

    parity_max: float
    parity_mean_max: float
    tolerance: float
    invariance_max: float
    auc_drop_max: float
    log_loss_rise_max: float
    auc_floor: float
    log_loss_ceiling: float


def at_most(gate: str, measured: float, limit: float) -> Gate:
    """Hold a measure to an upper limit; what is no number fails."""
    return Gate(gate, _finite(measured), limit, "max", "pass" if measured <= limit else "fail")


def at_least(gate: str, measured: float, limit: float) -> Gate:
    """Hold a measure to a lower limit; what is no number fails."""
    return Gate(gate, _finite(measured), limit, "min", "pass" if measured >= limit else "fail")


def floors(answers: np.ndarray, labels: np.ndarray, limits: Limits) -> list[Gate]:
    """Hold the quality itself to absolute limits.

    They stand beside every comparison, since a reference that is wrong in the same way
    passes any comparison.
    """
    auc, loss = quality(answers, labels)
    return [
        at_least("AUC", auc, limits.auc_floor),
        at_most("log loss", loss, limits.log_loss_ceiling),
    ]


def comparisons(
    answers: np.ndarray, reference: np.ndarray, labels: np.ndarray, limits: Limits
) -> list[Gate]:
    """Hold a cheaper precision's answers, and their quality, to those of fp32."""
    difference = np.abs(answers.astype(np.float64) - reference)
    auc, loss = quality(answers, labels)
    auc_fp32, loss_fp32 = quality(reference, labels)
    return [
        at_most("parity with fp32 (largest)", float(difference.max()), limits.parity_max),
        at_most("parity with fp32 (mean)", float(difference.mean()), limits.parity_mean_max),
        at_most("AUC drop from fp32", auc_fp32 - auc, limits.auc_drop_max),
        at_most("log loss rise from fp32", loss - loss_fp32, limits.log_loss_rise_max),
    ]


def quality(answers: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return AUC and log loss; NaN where an answer is no number or a class is missing."""
    from sklearn.metrics import log_loss, roc_auc_score  # seconds, and flows never measure

    if not np.isfinite(answers).all() or len(np.unique(labels)) < 2:
        return math.nan, math.nan
    exact = np.clip(answers.astype(np.float64), 0, 1)  # one ulp above 1 is rounding, not an error
    return float(roc_auc_score(labels, exact)), float(log_loss(labels, exact))


def measure_invariance(answer: Answer, rows: Arrays, edges: Arrays) -> float:
    """Measure how far a row's answer moves with its neighbours in a batch.

    Every row alone against the same row among others: in another order at each batch size, and
    beside one of the two most extreme rows that the contract allows. A scale that is taken over
    the batch moves with them.
    """
    count = columns.count_rows(rows)
    alone = np.concatenate([answer(columns.take(rows, slice(i, i + 1))) for i in range(count)])
    moved = [0.0]
    for size in INVARIANCE_BATCHES:
        order = np.random.default_rng(size).permutation(count)
        for turn, start in enumerate(range(0, count, size - 1)):
            part = order[start : start + size - 1]
            edge = columns.take(edges, [turn % 2])
            batch = {n: np.concatenate([rows[n][part], edge[n]]) for n in rows}
            moved.append(float(np.max(np.abs(answer(batch)[:-1] - alone[part]))))
    return float(np.max(moved))  # unlike the built-in max, keeps a NaN


def choose(
    passing: Sequence[str], rounds_ms: Mapping[str, Sequence[float]], cheaper_by_min: float
) -> str | None:
    """Choose the cheapest precision that passes, or fp32 unless another clearly beats it.

    Clearly: by the share `cheaper_by_min` in every round, so that one noisy minute cannot
    decide what goes live. None when nothing passes.
    """

    def typical_ms(precision: str) -> float:
        return float(np.median(rounds_ms[precision]))

    if FP32 not in passing:
        return min(passing, key=typical_ms, default=None)
    clearly = [
        precision
        for precision in passing
        if precision != FP32
        and worst_share(rounds_ms[precision], rounds_ms[FP32]) <= 1 - cheaper_by_min
    ]
    return min(clearly, key=typical_ms, default=FP32)


def worst_share(rounds_ms: Sequence[float], reference_ms: Sequence[float]) -> float:
    """Return the largest share of the reference's time that any round took."""
    return max(ours / theirs for ours, theirs in zip(rounds_ms, reference_ms, strict=True))


def verdict(gates: Sequence[Gate]) -> dict[str, Any]:
    """Sum up a precision's gates as gates.json has it."""
    failed = [gate.gate for gate in gates if gate.verdict == "fail"]
    return {
        "verdict": "fail" if failed else "pass",
        "reason": f"outside its limit: {', '.join(failed)}" if failed else None,
        "gates": [vars(gate) for gate in gates],
    }


def not_made(reason: str) -> dict[str, Any]:
    """Record a precision that there is no model of."""
    return {"verdict": "not made", "reason": reason, "gates": []}


def unusable(reason: str) -> dict[str, Any]:
    """Record a precision whose model cannot be run where it would have to."""
    return {"verdict": "fail", "reason": reason, "gates": []}


def explain_choice(precisions: Mapping[str, dict[str, Any]], chosen: str) -> dict[str, Any]:
    """Say of every precision that passes why it was chosen or not.

    Without numbers, and only by the choice: timings differ from run to run, and gates.json is
    part of the version.
    """
    explained = {}
    for name, result in precisions.items():
        reason = result["reason"]
        if name == chosen:
            reason = (
                "chosen: no other precision that passes is clearly cheaper"
                if name == FP32
                else "chosen: the cheapest that passes"
            )
        elif result["verdict"] == "pass":
            reason = (
                "passes, but is not clearly cheaper than fp32"
                if chosen == FP32
                else f"passes, but {chosen} is cheaper"
            )
        explained[name] = {**result, "reason": reason}
    return explained


def as_table(precisions: Mapping[str, dict[str, Any]]) -> str:
    """Lay out every gate for people."""
    lines = []
    for name, result in precisions.items():
        lines.append(f"  {name}: {', '.join(filter(None, [result['verdict'], result['reason']]))}")
        for gate in result["gates"]:
            measured = "no number" if gate["measured"] is None else f"{gate['measured']:.6g}"
            limit = f"{'<=' if gate['bound'] == 'max' else '>='} {gate['limit']:g}"
            lines.append(f"    {gate['gate']:<28} {measured:>12}  {limit:<12} {gate['verdict']}")
    return "\n".join(lines)


def _finite(measured: float) -> float | None:
    return measured if math.isfinite(measured) else None
