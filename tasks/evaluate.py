"""Measure every family, as it is exported, beside the base rate: on the rows that choose, which
decide, and on the test part, which people look at and no code that chooses does.

Writes `choice.json`, what each family loses against the best one on the rows that choose, and
`metrics.json`, quality of the test part overall and per slice.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipway.bundle.session import open_session
from slipway.errors import SlipwayError
from slipway.precision import REFERENCE
from slipway.problem import Answers, Labels, Problem, Weights
from slipway.provider import CPU
from slipway.statistics.bootstrap import paired
from tasks import columns, graph
from tasks.candidates import CandidateModel
from tasks.columns import Columns
from tasks.models import is_off
from tasks.shards import Rows, read_features, read_shards, read_split
from tasks.tables import write_json

if TYPE_CHECKING:
    from slipway.config import EvaluateConfig

BATCH_ROWS = 8192
THREADS = 1
"""One thread adds in one order: the same answers on every machine."""

BASE = "base"
"""Who looks at no feature."""

Answered = Mapping[str, Answers]
"""Answers by who gave them."""


def run(
    config: "EvaluateConfig",
    *,
    candidates: Mapping[CandidateModel, Path],
    prepared: Path,
    evaluation: Path,
) -> None:
    """Write quality overall and per slice, calibration curves, and who is how far behind."""
    features = read_features(prepared)
    folders = {
        c.family: folder
        for c, folder in candidates.items()
        if c.precision == REFERENCE and not is_off(folder)
    }
    raw = columns.read_columns(next(iter(folders.values())))
    problem = raw.problem
    choose, test = read_split(prepared, "choose"), read_split(prepared, "test")
    write_json(evaluation / "choice.json", compare(problem, choose, answer_all(folders, choose)))
    answered = answer_all(folders, test)
    base = {BASE: _base(raw, prepared, len(test))}
    write_json(
        evaluation / "metrics.json",
        {
            "problem": problem.name,
            "families": {n: measure(problem, test, a) for n, a in answered.items()},
            "base": measure(problem, test, base[BASE]),
            "differences": compare(problem, test, answered)["families"],
            "calibration": {
                name: curve(problem, test.labels, answers, config.calibration_bins)
                for name, answers in answered.items()
            },
            "slice_rows_min": config.slice_rows_min,
            "slices": {
                name: slices(
                    problem,
                    values_of(features, test, name),
                    test,
                    answered,
                    rows_min=config.slice_rows_min,
                )
                for name in config.slices
            },
        },
    )


def answer_all(folders: Mapping[str, Path], rows: Rows) -> dict[str, Answers]:
    """Let every family's exported core answer prepared rows."""
    return {name: answer(folder, rows) for name, folder in folders.items()}


def answer(folder: Path, rows: Rows) -> Answers:
    """Return the answers [N] or [N, K] of an exported core, behind which its calibration stands."""
    session = open_session(folder / graph.CORE, CPU, THREADS)
    answering = columns.read_columns(folder).answering
    scores = []
    for start in range(0, len(rows), BATCH_ROWS):
        part = slice(start, start + BATCH_ROWS)
        given: dict[str, NDArray[Any]] = {
            graph.CATEGORIES: rows.categories[part].astype(np.int64),
            graph.NUMBERS: np.ascontiguousarray(rows.numbers[part]),
        }
        taken = {name: values for name, values in given.items() if name in session.inputs}
        scores.append(session.run(taken)[graph.SCORES])
    return answering.respond(np.concatenate(scores))


def compare(problem: Problem, rows: Rows, answered: Answered) -> dict[str, Any]:
    """Say what each family loses against the best one, by the primary measure, in 95 of 100."""
    primary = problem.primary
    measured = {n: primary(rows.labels, a, rows.weights) for n, a in answered.items()}
    sign = -1 if primary.higher_is_better else 1
    known = {n: sign * v for n, v in measured.items() if v is not None and np.isfinite(v)}
    best = min(known, key=lambda name: known[name]) if known else None
    return {
        "measure": primary.key,
        "rows": len(rows),
        "best": best,
        "families": {
            name: {
                "measures": measure(problem, rows, answers),
                "loss": _loss(problem, rows, answers, answered[best]) if best else None,
            }
            for name, answers in answered.items()
        },
    }


def _loss(problem: Problem, rows: Rows, mine: Answers, best: Answers) -> dict[str, Any] | None:
    if mine is best:
        return {"value": 0.0, "low": 0.0, "high": 0.0}
    primary = problem.primary

    def differ(weights: NDArray[Any]) -> float | None:
        ours, theirs = (primary(rows.labels, a, weights) for a in (mine, best))
        return None if ours is None or theirs is None else primary.loss(ours, theirs)

    found = paired(differ, rows.units, rows.weights)
    return None if found is None else {k: _round(v) for k, v in asdict(found).items()}


def _base(raw: Columns, prepared: Path, rows: int) -> Answers:
    """Answer every row alike, as a model that looks at none would."""
    shards = read_shards(prepared)
    train = shards.take(np.arange(len(shards)))
    one = raw.problem.baseline(train.labels, raw.predicted, train.weights)
    return np.broadcast_to(one, (rows, *one.shape))


def measure(problem: Problem, rows: Rows, answers: Answers) -> dict[str, Any]:
    """Measure all that the problem knows; None where the rows cannot tell."""
    return _measured(problem, rows.labels, answers, rows.weights)


def _measured(
    problem: Problem, labels: Labels, answers: Answers, weights: Weights
) -> dict[str, Any]:
    found = {
        **problem.describe(labels, weights),
        **problem.measure(labels, answers, weights),
    }
    return {"rows": len(labels), **{key: _round(value) for key, value in found.items()}}


def curve(problem: Problem, labels: Labels, answers: Answers, bins: int) -> list[dict[str, Any]]:
    """Write down the calibration curve."""
    return [
        {key: _round(value) for key, value in asdict(found).items()}
        for found in problem.calibration(labels, answers, bins)
    ]


def values_of(features: dict[str, Any], rows: Rows, name: str) -> NDArray[Any]:
    """Return a slicing column's values as text."""
    for i, category in enumerate(features["categories"]):
        if category["name"] == name:
            vocabulary = np.array(["(unknown)", *category["vocabulary"]])
            return vocabulary[rows.categories[:, i]]
    for i, number in enumerate(features["numbers"]):
        if number["name"] == name:
            return np.array([f"{value:.9g}" for value in rows.numbers[:, i]])
    known = [f["name"] for f in [*features["categories"], *features["numbers"]]]
    raise SlipwayError(
        f"evaluate.slices names {name!r}, which is not a feature; features: {', '.join(known)}"
    )


def slices(
    problem: Problem, values: NDArray[Any], rows: Rows, answered: Answered, *, rows_min: int
) -> dict[str, Any]:
    """Measure every value of a column; those with few rows are marked as such."""
    found = {}
    for value in sorted(set(values.tolist()), key=_natural):
        here = values == value
        weights = None if rows.weights is None else rows.weights[here]
        labels = rows.labels[here]
        by_family = {
            name: _round(problem.primary(labels, answers[here], weights))
            for name, answers in answered.items()
        }
        described = {k: _round(v) for k, v in problem.describe(labels, weights).items()}
        enough = len(labels) >= rows_min and None not in by_family.values()
        found[value] = {
            "rows": len(labels),
            **described,
            **by_family,
            "enough_rows": enough,
        }
    return found


def _natural(value: str) -> tuple[float, str]:
    """Sort numbers as numbers."""
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _round(value: float | None) -> float | None:
    """Keep six places, of large numbers seven digits: the next depends on the order of a sum."""
    if value is None or isinstance(value, int) or not np.isfinite(value):
        return value if value is None or isinstance(value, int) else None
    return float(f"{value:.7g}") if abs(value) >= 10 else round(value, 6)
