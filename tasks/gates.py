"""The gates: what is measured of a candidate, what it is held to, and which one is chosen.

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
from slipway.problem import Labels, Measure, Problem, Weights
from tasks import columns
from tasks.candidates import CandidateModel
from tasks.columns import Arrays

if TYPE_CHECKING:
    from slipway.config import ProveConfig

Answer = Callable[[Arrays], np.ndarray]
"""Give the judged output of a batch of rows."""

INVARIANCE_ROWS = 512
INVARIANCE_BATCHES = (7, 64, 256)
"""Sizes that no kernel's tile divides evenly, and those that hosts really build."""


@dataclass(frozen=True)
class Standard:
    """What the quality of every candidate is held to: by what measures, labels and limits."""

    problem: Problem
    labels: Labels
    limits: "ProveConfig"
    weights: Weights = None
    scale: float = 1.0
    """What differences of answers are told in."""

    def measure(self, measure: Measure, answers: np.ndarray) -> float | None:
        """Measure answers to the golden rows."""
        return measure(self.labels, answers, self.weights)


def floors(standard: Standard, answers: np.ndarray) -> list[Gate]:
    """Hold the quality itself to absolute limits.

    They stand beside every comparison, since a reference that is wrong in the same way
    passes any comparison.
    """
    gates = []
    for measure in standard.problem.gated:
        hold = at_least if measure.higher_is_better else at_most
        limit = standard.limits.quality[measure.key].worst
        gates.append(hold(measure.name, standard.measure(measure, answers), limit))
    return gates


def comparisons(standard: Standard, answers: np.ndarray, reference: np.ndarray) -> list[Gate]:
    """Hold a cheaper precision's answers, and their quality, to those of the reference."""
    difference = np.abs(answers.astype(np.float64) - reference) / standard.scale
    largest, mean = standard.limits.parity_max, standard.limits.parity_mean_max
    return [
        at_most(f"{PARITY} with {REFERENCE} (largest)", float(difference.max()), largest),
        at_most(f"{PARITY} with {REFERENCE} (mean)", float(difference.mean()), mean),
        *(_loss(standard, measure, answers, reference) for measure in standard.problem.gated),
    ]


def _loss(standard: Standard, measure: Measure, answers: np.ndarray, reference: np.ndarray) -> Gate:
    mine, theirs = standard.measure(measure, answers), standard.measure(measure, reference)
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


def stays(loss: Mapping[str, float] | None, margin: float) -> bool:
    """Tell whether a family is good enough beside the best one, on the rows that choose.

    The upper end of the interval counts: too little data keeps the better one, never the cheaper.
    """
    return loss is not None and loss["high"] <= margin


def choose(
    passing: Sequence[CandidateModel],
    rounds_ms: Mapping[CandidateModel, Sequence[float]],
    cheaper_by_min: float,
) -> CandidateModel | None:
    """Walk the candidates in their order; a later one must clearly beat the one that is held.

    Clearly: by the share `cheaper_by_min` of time in every round, so that one noisy minute cannot
    decide what goes live and near-equals never swap. None when nothing passes.
    """
    held: CandidateModel | None = None
    for candidate in passing:
        if held is None or (
            worst_share(rounds_ms[candidate], rounds_ms[held]) <= 1 - cheaper_by_min
        ):
            held = candidate
    return held


def not_made(reason: str) -> dict[str, Any]:
    """Record a candidate that there is no model of."""
    return {"verdict": NOT_MADE, "reason": reason, "gates": []}


def unusable(reason: str) -> dict[str, Any]:
    """Record a candidate whose model cannot be run where it would have to."""
    return {"verdict": FAIL, "reason": reason, "gates": []}


def behind(loss: Mapping[str, float] | None, best: str, margin: float) -> str:
    """Say why a family's candidates are not chosen: it loses too much, or may."""
    if loss is None:
        return f"cannot be compared with {best} on the rows that choose"
    return (
        f"loses {loss['value']:.4g} to {best} on the rows that choose, up to {loss['high']:.4g} in"
        f" 95 of 100; {margin:g} is allowed"
    )


def explain_choice(
    results: Mapping[CandidateModel, dict[str, Any]],
    chosen: CandidateModel,
    out: Mapping[str, str],
) -> dict[str, Any]:
    """Say of every candidate that passes why it was chosen or not; `out`: why families are not.

    Without timings, and only by the choice: they differ from run to run, and gates.json is part of
    the version.
    """
    explained = {}
    for candidate, result in results.items():
        reason = result["reason"]
        if candidate == chosen:
            reason = "chosen: no other candidate that passes is good enough and clearly cheaper"
        elif candidate.family in out and result["verdict"] == PASS:
            reason = f"passes, but {candidate.family} {out[candidate.family]}"
        elif result["verdict"] == PASS:
            reason = f"passes, but is not clearly cheaper than {chosen}"
        explained[str(candidate)] = {**result, "reason": reason}
    return explained


def as_table(results: Mapping[CandidateModel, dict[str, Any]]) -> str:
    """Lay out every gate for people."""
    lines = []
    for name, result in results.items():
        lines.append(f"  {name}: {', '.join(filter(None, [result['verdict'], result['reason']]))}")
        for gate in result["gates"]:
            measured = "no number" if gate["measured"] is None else f"{gate['measured']:.6g}"
            limit = f"{SIGNS[gate['bound']]} {gate['limit']:g}"
            lines.append(f"    {gate['gate']:<28} {measured:>12}  {limit:<12} {gate['verdict']}")
    return "\n".join(lines)
