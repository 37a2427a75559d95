"""The train stage of a family that is fitted in one call: its weights and its history."""

import json
from importlib import reload
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest

from slipway.problem import Target
from tasks import train
from tasks.checkpoints import Checkpoints
from tasks.models import load_family
from tasks.shards import read_split
from tests.unit.tasks.models.small_families import trees_config
from tests.unit.tasks.small_tables import BY_ROWS, run_prepare, table, with_column

SEVERAL = Target("late", "multiclass", ("a", "b", "c"))


def fitted(root: Path, **changes: Any) -> tuple[dict[str, Any], Path]:
    """Fit trees on a prepared table whose label is in its numbers."""
    rows = with_column(table(), "late", [("a", "b", "c")[i % 7 % 3] for i in range(3000)])
    prepared = run_prepare(root, rows, BY_ROWS, target=SEVERAL)
    folders = {name: root / name for name in ("weights", "training_report", "checkpoints")}
    for folder in folders.values():
        folder.mkdir()
    train.run(
        trees_config(**changes),
        family="trees",
        prepared=prepared,
        weights=folders["weights"],
        training_report=folders["training_report"],
        checkpoints=Checkpoints(folders["checkpoints"]),
    )
    assert list(folders["checkpoints"].iterdir()) == []
    [report] = folders["training_report"].iterdir()
    return json.loads(report.read_text()), folders["weights"]


@pytest.fixture(autouse=True)
def _trees_anew() -> None:
    """Take the package's own `fit` again: once it ran, its name is that of the module fit.py."""
    reload(cast("ModuleType", load_family("trees")))


def test_a_history_has_every_round_and_says_that_all_were_done(tmp_path: Path) -> None:
    history, weights = fitted(tmp_path, iterations=5, patience=5)
    assert [each["step"] for each in history["evaluations"]] == [1, 2, 3, 4, 5]
    losses = [each["log_loss"] for each in history["evaluations"]]
    assert losses == sorted(losses, reverse=True)
    assert (history["best_step"], history["stopped"]) == (5, "all rounds done")
    assert (history["steps"], history["processes"]) == ([], 1)
    assert history["parameters"] > 5 * 3
    assert sorted(path.name for path in weights.iterdir()) == ["trees.json", "trees.safetensors"]


def test_what_was_fitted_tells_the_classes_apart(tmp_path: Path) -> None:
    _, weights = fitted(tmp_path, iterations=20)
    test = read_split(tmp_path / "prepared", "test")
    scores = load_family("trees").load(weights).score(test.categories, test.numbers)
    assert (scores.argmax(axis=1) == test.labels).mean() > 0.95


def test_a_training_that_stops_early_says_after_how_many_rounds(tmp_path: Path) -> None:
    history, _ = fitted(tmp_path, iterations=400, learning_rate=3.0, patience=2)
    assert history["stopped"] == "no better for 2 rounds"
    assert history["best_step"] == len(history["evaluations"]) - 2
    losses = [each["log_loss"] for each in history["evaluations"]]
    assert int(np.argmin(losses)) + 1 == history["best_step"]


def test_the_same_rows_give_the_same_history_and_weights(tmp_path: Path) -> None:
    one, two = (fitted(tmp_path / name, iterations=4) for name in ("one", "two"))
    assert one[0] == two[0]
    for name in ("trees.json", "trees.safetensors"):
        assert (one[1] / name).read_bytes() == (two[1] / name).read_bytes()
