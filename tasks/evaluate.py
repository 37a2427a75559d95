"""Measure the network on the test days, beside the base rate and a tree model on the same rows."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from slipway.errors import SlipwayError
from slipway.problem import PROBLEMS, Labels, Problem
from tasks.network import load_network
from tasks.shards import Rows, read_features, read_split, read_train
from tasks.tables import write_json

if TYPE_CHECKING:
    from slipway.config import EvaluateConfig, TreeConfig

Floats = NDArray[np.float64]
BATCH_ROWS = 8192


def run(config: "EvaluateConfig", *, prepared: Path, weights: Path, evaluation: Path) -> None:
    """Write quality overall and per slice, and the calibration curves."""
    features = read_features(prepared)
    problem = PROBLEMS[features["problem"]]
    train, test = read_train(prepared), read_split(prepared, "test")
    predictions = {
        "network": predict(weights, test),
        "tree": predict_tree(config.tree, train, test),
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


def predict(weights: Path, rows: Rows) -> Floats:
    """Return the network's probabilities [N]."""
    network = load_network(weights)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH_ROWS):
            part = rows.take(np.arange(start, min(start + BATCH_ROWS, len(rows))))
            categories = torch.from_numpy(part.categories).long()
            logits = network(categories, torch.from_numpy(part.numbers))
            parts.append(torch.sigmoid(logits).double().numpy())
    return np.concatenate(parts)


def predict_tree(config: "TreeConfig", train: Rows, test: Rows) -> Floats:
    """Fit the reference on the network's own rows and features; return probabilities [N]."""
    categories = train.categories.shape[1]
    tree = HistGradientBoostingClassifier(
        max_iter=config.max_iter,
        learning_rate=config.learning_rate,
        max_leaf_nodes=config.max_leaf_nodes,
        random_state=config.seed,
        categorical_features=list(range(categories)),
        early_stopping=False,
    )
    tree.fit(np.hstack([train.categories, train.numbers]), train.labels)
    chances: Floats = tree.predict_proba(np.hstack([test.categories, test.numbers]))[:, 1]
    return chances


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
