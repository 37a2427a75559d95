"""Measure the network on the test days, beside the base rate and a tree model on the same rows."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipway.errors import SlipwayError
from slipway.problem import PROBLEMS, Labels, Problem
from tasks.models import load_family, load_reference
from tasks.shards import Rows, read_features, read_split, read_train
from tasks.tables import write_json

if TYPE_CHECKING:
    from slipway.config import EvaluateConfig
    from tasks.models.family import Model

Floats = NDArray[np.float64]

NETWORK, TREES = "network", "trees"
FAMILIES = (NETWORK, TREES)
"""Who is measured, and what that is measured against."""


def run(config: "EvaluateConfig", *, prepared: Path, weights: Path, evaluation: Path) -> None:
    """Write quality overall and per slice, and the calibration curves."""
    features = read_features(prepared)
    problem = PROBLEMS[features["problem"]]
    train, test = read_train(prepared), read_split(prepared, "test")
    predictions = {
        "network": predict(load_family(NETWORK).load(weights), test),
        "tree": predict(load_reference(TREES).fit(config.tree, train), test),
        "base": np.full(len(test), problem.baseline(train.labels)),
    }
    quality = {name: measure(problem, test.labels, p) for name, p in predictions.items()}
    primary, bins = problem.primary.key, config.calibration_bins
    ahead = quality["network"][primary] - quality["tree"][primary]
    write_json(
        evaluation / "metrics.json",
        {
            "problem": problem.name,
            "test": quality["network"],
            "tree": quality["tree"],
            "base": quality["base"],
            f"{primary}_minus_tree": _round(ahead),
            "calibration": calibration(problem, test.labels, predictions["network"], bins),
            "calibration_tree": calibration(problem, test.labels, predictions["tree"], bins),
            "slice_rows_min": config.slice_rows_min,
            "slices": {
                name: slices(
                    problem,
                    values_of(features, test, name),
                    test.labels,
                    predictions,
                    rows_min=config.slice_rows_min,
                )
                for name in config.slices
            },
        },
    )


def predict(model: "Model", rows: Rows) -> Floats:
    """Return a model's answers [N]."""
    return model.predict(rows.categories, rows.numbers).astype(np.float64)


def measure(problem: Problem, labels: Labels, predictions: Floats) -> dict[str, Any]:
    """Measure all that the problem knows; None where the rows cannot tell."""
    found = {**problem.describe(labels), **problem.measure(labels, predictions)}
    return {"rows": len(labels), **{key: _round(value) for key, value in found.items()}}


def calibration(
    problem: Problem, labels: Labels, predictions: Floats, bins: int
) -> list[dict[str, Any]]:
    """Write down the calibration curve."""
    return [
        {key: _round(value) for key, value in asdict(found).items()}
        for found in problem.calibration(labels, predictions, bins)
    ]


def values_of(features: dict[str, Any], rows: Rows, name: str) -> NDArray[Any]:
    """Return a slicing column's values as text."""
    for i, category in enumerate(features["categories"]):
        if category["name"] == name:
            vocabulary = np.array(["(unknown)", *category["vocabulary"]])
            return vocabulary[rows.categories[:, i]]
    for i, number in enumerate(features["numbers"]):
        if number["name"] == name:
            return np.array([f"{value:g}" for value in rows.numbers[:, i]])
    known = [f["name"] for f in [*features["categories"], *features["numbers"]]]
    raise SlipwayError(
        f"evaluate.slices names {name!r}, which is not a feature; features: {', '.join(known)}"
    )


def slices(
    problem: Problem,
    values: NDArray[Any],
    labels: Labels,
    predictions: dict[str, Floats],
    *,
    rows_min: int,
) -> dict[str, Any]:
    """Measure every value of a column; those with few rows are marked as such."""
    found, primary = {}, problem.primary
    for value in sorted(set(values.tolist()), key=_natural):
        here = values == value
        part = measure(problem, labels[here], predictions["network"][here])
        tree = primary(labels[here], predictions["tree"][here])
        enough = part["rows"] >= rows_min and part[primary.key] is not None
        found[value] = {**part, f"tree_{primary.key}": _round(tree), "enough_rows": enough}
    return found


def _natural(value: str) -> tuple[float, str]:
    """Sort numbers as numbers."""
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _round(value: float | None) -> float | None:
    """Keep six places: the seventh depends on the order of a sum."""
    return value if value is None or isinstance(value, int) else round(value, 6)
