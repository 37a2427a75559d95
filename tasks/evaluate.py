"""Measure the network on the test days, beside the base rate and a tree model on the same rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from slipway.errors import SlipwayError
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
    train, test = read_train(prepared), read_split(prepared, "test")
    labels = test.labels.astype(np.int8)
    predictions = {
        "network": predict(weights, test),
        "tree": predict_tree(config.tree, train, test),
        "base": np.full(len(test), train.labels.mean(dtype=np.float64)),
    }
    quality = {
        name: {**measure(labels, p), "ece": expected_calibration_error(labels, p, config)}
        for name, p in predictions.items()
    }
    write_json(
        evaluation / "metrics.json",
        {
            "test": quality["network"],
            "tree": quality["tree"],
            "base": quality["base"],
            "auc_minus_tree": round(quality["network"]["auc"] - quality["tree"]["auc"], 6),
            "calibration": calibration(labels, predictions["network"], config.calibration_bins),
            "calibration_tree": calibration(labels, predictions["tree"], config.calibration_bins),
            "slice_rows_min": config.slice_rows_min,
            "slices": {
                name: slices(values_of(features, test, name), labels, predictions, config)
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


def measure(labels: NDArray[np.int8], predictions: Floats) -> dict[str, Any]:
    """Measure AUC (none when only one class is there), log loss and Brier score."""
    both = 0 < labels.sum() < len(labels)
    return {
        "rows": len(labels),
        "positives": int(labels.sum()),
        "base_rate": _round(labels.mean()),
        "auc": _round(roc_auc_score(labels, predictions)) if both else None,
        "log_loss": _round(log_loss(labels, predictions, labels=[0, 1])),
        "brier": _round(brier_score_loss(labels, predictions, pos_label=1)),
    }


def calibration(labels: NDArray[np.int8], predictions: Floats, bins: int) -> list[dict[str, Any]]:
    """Compare predicted with observed shares in bins of equal count."""
    order = np.argsort(predictions, kind="stable")
    return [
        {
            "predicted": _round(predictions[part].mean()),
            "observed": _round(labels[part].mean()),
            "rows": len(part),
        }
        for part in np.array_split(order, bins)
        if len(part)
    ]


def expected_calibration_error(
    labels: NDArray[np.int8], predictions: Floats, config: "EvaluateConfig"
) -> float:
    """Average |predicted - observed| over bins of equal count (Naeini et al., 2015)."""
    curve = calibration(labels, predictions, config.calibration_bins)
    return _round(np.average([abs(b["predicted"] - b["observed"]) for b in curve]))


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
    values: NDArray[Any],
    labels: NDArray[np.int8],
    predictions: dict[str, Floats],
    config: "EvaluateConfig",
) -> dict[str, Any]:
    """Measure every value of a column; those with few rows are marked as such."""
    found = {}
    for value in sorted(set(values.tolist()), key=_natural):
        here = values == value
        part = measure(labels[here], predictions["network"][here])
        part["tree_auc"] = measure(labels[here], predictions["tree"][here])["auc"]
        part["enough_rows"] = part["rows"] >= config.slice_rows_min and part["auc"] is not None
        found[value] = part
    return found


def _natural(value: str) -> tuple[float, str]:
    """Sort numbers as numbers."""
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _round(value: float) -> float:
    """Keep six places: the seventh depends on the order of a sum."""
    return round(float(value), 6)
