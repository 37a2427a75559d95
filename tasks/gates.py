"""The gates: what is measured of a precision, what it is held to, and which one is chosen.

Pure: arrays and numbers in, verdicts out. Nothing here knows files or clocks, so the same
answers always give the same `gates.json`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from slipway.bundle.gate import (
    FAIL,
    NOT_MADE,
    PARITY,
    PASS,
    SIGNS,
    Gate,
    at_least,
    at_most,
    worst_share,
)
from slipway.precision import REFERENCE
from slipway.problem import Labels, Measure, Problem
from tasks import columns
from tasks.columns import Arrays

if TYPE_CHECKING:
    from slipway.config import ProveConfig

Answer = Callable[[Arrays], np.ndarray]
"""Give the probabilities [N] of a batch of rows."""

INVARIANCE_ROWS = 512
INVARIANCE_BATCHES = (7, 64, 256)
"""Sizes that no kernel's tile divides evenly, and those that hosts really build."""


@dataclass(frozen=True)
class Standard:
    """What the quality of every precision is held to: by what measures, labels and limits."""

    problem: Problem
    labels: Labels
    limits: "ProveConfig"


def floors(standard: Standard, answers: np.ndarray) -> list[Gate]:
    """Hold the quality itself to absolute limits.

    They stand beside every comparison, since a reference that is wrong in the same way
    passes any comparison.
    """
    gates = []
    for measure in standard.problem.gated:
        hold = at_least if measure.higher_is_better else at_most
        limit = standard.limits.quality[measure.key].worst
        gates.append(hold(measure.name, measure(standard.labels, answers), limit))
    return gates


def comparisons(standard: Standard, answers: np.ndarray, reference: np.ndarray) -> list[Gate]:
    """Hold a cheaper precision's answers, and their quality, to those of the reference."""
    difference = np.abs(answers.astype(np.float64) - reference)
    largest, mean = standard.limits.parity_max, standard.limits.parity_mean_max
    return [
        at_most(f"{PARITY} with {REFERENCE} (largest)", float(difference.max()), largest),
        at_most(f"{PARITY} with {REFERENCE} (mean)", float(difference.mean()), mean),
        *(_loss(standard, measure, answers, reference) for measure in standard.problem.gated),
    ]


def _loss(standard: Standard, measure: Measure, answers: np.ndarray, reference: np.ndarray) -> Gate:
    mine, theirs = measure(standard.labels, answers), measure(standard.labels, reference)
    lost = None if mine is None or theirs is None else measure.loss(mine, theirs)
    limit = standard.limits.quality[measure.key].loss_max
    return at_most(f"{measure.name} {measure.worse} from {REFERENCE}", lost, limit)


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

    if REFERENCE not in passing:
        return min(passing, key=typical_ms, default=None)
    clearly = [
        precision
        for precision in passing
        if precision != REFERENCE
        and worst_share(rounds_ms[precision], rounds_ms[REFERENCE]) <= 1 - cheaper_by_min
    ]
    return min(clearly, key=typical_ms, default=REFERENCE)


def not_made(reason: str) -> dict[str, Any]:
    """Record a precision that there is no model of."""
    return {"verdict": NOT_MADE, "reason": reason, "gates": []}


def unusable(reason: str) -> dict[str, Any]:
    """Record a precision whose model cannot be run where it would have to."""
    return {"verdict": FAIL, "reason": reason, "gates": []}


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
                if name == REFERENCE
                else "chosen: the cheapest that passes"
            )
        elif result["verdict"] == PASS:
            reason = (
                f"passes, but is not clearly cheaper than {REFERENCE}"
                if chosen == REFERENCE
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
            limit = f"{SIGNS[gate['bound']]} {gate['limit']:g}"
            lines.append(f"    {gate['gate']:<28} {measured:>12}  {limit:<12} {gate['verdict']}")
    return "\n".join(lines)
