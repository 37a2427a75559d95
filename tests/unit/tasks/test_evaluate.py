"""Families side by side: who is best on the rows that choose, and what the others lose."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipway.config import EvaluateConfig, PrepareConfig
from slipway.errors import SlipwayError
from slipway.problem import BINARY, MULTICLASS, REGRESSION
from slipway.problem.calibration import Calibration
from tasks import columns, evaluate, prepare
from tasks.shards import Rows
from tests.small_models import (
    FP32,
    make_core,
    make_line,
    small_columns,
    small_rows,
)
from tests.unit.tasks.small_tables import BY_ROWS, split_of, write_folder

DICE = np.random.default_rng(0)
LABELS = {
    "binary": DICE.integers(0, 2, 600),
    "multiclass": DICE.integers(0, 3, 600),
    "regression": DICE.normal(50, 10, 600),
}
PROBLEMS = {each.name: each for each in (BINARY, MULTICLASS, REGRESSION)}


def rows_of(labels: Any, units: Any = None, weights: Any = None) -> Rows:
    count = len(labels)
    return Rows(
        categories=np.zeros((count, 0), np.int32),
        numbers=np.zeros((count, 0), np.float32),
        labels=np.asarray(labels, np.float64),
        units=np.arange(count) if units is None else np.asarray(units),
        weights=weights,
    )


def answers(problem: str, noise: float, seed: int = 1) -> np.ndarray:
    """Answer well, or with so much noise."""
    dice, labels = np.random.default_rng(seed), LABELS[problem]
    match problem:
        case "binary":
            logits = 2 * labels - 1 + dice.normal(scale=noise, size=600)
            return 1 / (1 + np.exp(-logits))
        case "multiclass":
            logits = 2 * np.eye(3)[labels] + dice.normal(scale=noise, size=(600, 3))
            return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels + dice.normal(scale=10 * noise, size=600)


def compare(problem: str, answered: dict[str, np.ndarray], **rows: Any) -> dict[str, Any]:
    return evaluate.compare(PROBLEMS[problem], rows_of(LABELS[problem], **rows), answered)


each_problem = pytest.mark.parametrize("problem", PROBLEMS)


GOOD_FIRST, POOR_FIRST = ("good", "poor"), ("poor", "good")


@pytest.mark.parametrize(
    ("problem", "order"),
    [
        *((problem, GOOD_FIRST) for problem in ("binary", "multiclass")),
        *((problem, POOR_FIRST) for problem in ("binary", "multiclass")),
        ("regression", GOOD_FIRST),
        pytest.param("regression", POOR_FIRST),
    ],
)  # fmt: skip
def test_the_best_is_the_best_by_the_primary_measure_whatever_the_order(
    problem: str, order: tuple[str, str]
) -> None:
    noise = {"good": 0.5, "poor": 1.5}
    found = compare(problem, {name: answers(problem, noise[name]) for name in order})
    assert found["best"] == "good"
    assert found["measure"] == PROBLEMS[problem].primary.key


@each_problem
def test_the_best_loses_nothing_and_another_loses_what_the_measures_say(problem: str) -> None:
    answered = {"good": answers(problem, 0.5), "poor": answers(problem, 1.5, seed=2)}
    found = compare(problem, answered)["families"]
    primary = PROBLEMS[problem].primary
    good, poor = (found[name]["measures"][primary.key] for name in answered)
    assert found["good"]["loss"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    loss = found["poor"]["loss"]
    assert loss["value"] == pytest.approx(primary.loss(poor, good), abs=2e-6)
    assert 0 < loss["low"] < loss["value"] < loss["high"]


@each_problem
def test_answers_that_are_the_same_lose_nothing_for_sure(problem: str) -> None:
    same = answers(problem, 0.5)
    found = compare(problem, {"one": same, "other": same.copy()})["families"]
    assert found["other"]["loss"] == {"value": 0.0, "low": 0.0, "high": 0.0}


@each_problem
def test_the_interval_is_that_of_units(problem: str) -> None:
    answered = {"good": answers(problem, 0.5), "near": answers(problem, 0.6, seed=2)}
    rows = compare(problem, answered)["families"]["near"]["loss"]
    often = np.repeat(np.arange(600), 5)
    found = evaluate.compare(
        PROBLEMS[problem],
        rows_of(LABELS[problem][often], units=often),
        {name: a[often] for name, a in answered.items()},
    )["families"]["near"]["loss"]
    assert found == pytest.approx(rows, abs=2e-6)


@pytest.mark.parametrize(
    "order",
    [
        ("sound", "broken"),
        pytest.param(("broken", "sound")),
    ],
    ids=lambda order: order[0],
)
def test_a_family_that_answers_nan_is_not_the_best(order: tuple[str, str]) -> None:
    answered = {"sound": answers("binary", 1.0), "broken": np.full(600, np.nan)}
    found = compare("binary", {name: answered[name] for name in order})
    assert found["best"] == "sound"
    assert found["families"]["broken"]["loss"] is None


def test_where_the_rows_cannot_tell_there_is_no_best() -> None:
    found = evaluate.compare(BINARY, rows_of(np.ones(50)), {"one": np.full(50, 0.5)})
    assert (found["best"], found["families"]["one"]["loss"]) == (None, None)


def test_weights_decide_who_is_best() -> None:
    labels = LABELS["binary"]
    first, second = np.arange(600) < 300, np.arange(600) >= 300
    good, poor = answers("binary", 0.3), answers("binary", 3.0)
    answered = {"first": np.where(first, good, poor), "second": np.where(second, good, poor)}
    for name, part in (("first", first), ("second", second)):
        rows = rows_of(labels, weights=np.where(part, 1.0, 0.01))
        assert evaluate.compare(BINARY, rows, answered)["best"] == name


def test_slices_are_measured_each_by_itself_and_few_rows_are_marked() -> None:
    values = np.array(["10"] * 300 + ["9"] * 280 + ["(unknown)"] * 20)
    answered = {"good": answers("binary", 0.5), "poor": answers("binary", 3.0)}
    found = evaluate.slices(BINARY, values, rows_of(LABELS["binary"]), answered, rows_min=100)
    assert list(found) == ["9", "10", "(unknown)"]
    assert [each["rows"] for each in found.values()] == [280, 300, 20]
    assert [each["enough_rows"] for each in found.values()] == [True, True, False]
    first = LABELS["binary"][:300], answered["good"][:300]
    assert found["10"]["good"] == pytest.approx(BINARY.primary(*first), abs=1e-6)


def test_a_slice_of_one_class_is_shown_without_a_number() -> None:
    values = np.where(LABELS["binary"] == 1, "ones", "mixed")
    values[:300] = "mixed"
    answered = {"good": answers("binary", 0.5)}
    found = evaluate.slices(BINARY, values, rows_of(LABELS["binary"]), answered, rows_min=10)
    assert (found["ones"]["good"], found["ones"]["enough_rows"]) == (None, False)


@each_problem
def test_a_slice_in_which_nothing_counts_is_shown_without_a_number(problem: str) -> None:
    values = np.array(["none"] * 50 + ["some"] * 550)
    rows = rows_of(LABELS[problem], weights=np.r_[np.zeros(50), np.ones(550)])
    found = evaluate.slices(
        PROBLEMS[problem], values, rows, {"good": answers(problem, 0.5)}, rows_min=10
    )
    assert (found["none"]["good"], found["none"]["enough_rows"]) == (None, False)


def test_a_slice_that_is_no_feature_is_refused() -> None:
    features = {"categories": [{"name": "kind"}], "numbers": [{"name": "size"}]}
    with pytest.raises(SlipwayError, match="'weight', which is not a feature; features: kind, si"):
        evaluate.values_of(features, rows_of([1.0]), "weight")


@pytest.fixture
def evaluated(tmp_path: Path) -> dict[str, Any]:
    """Evaluate two families of small models on prepared rows, in a calibrated form."""
    line = make_line(tmp_path, trees=make_core([0.1, 0.9]))
    columns.write_columns(line.of(FP32), small_columns(Calibration(temperature=0.5)))
    valid = write_folder(tmp_path / "valid", small_rows(4000), key=["flight"], time=None)
    settings = {"categories": {"origin": "a"}, "numbers": {"delay": "b", "wind": "c"}}
    prepare.run(
        PrepareConfig.model_validate({**settings, "min_category_rows": 1, "shard_rows": 9999}),
        split_of(BY_ROWS),
        valid=valid,
        prepared=line.folder("prepared"),
    )
    config = EvaluateConfig(slices=["origin"], slice_rows_min=50, calibration_bins=5)
    evaluate.run(
        config,
        candidates=line.candidates,
        prepared=line.folder("prepared"),
        evaluation=line.folder("evaluation"),
    )
    return {path.stem: json.loads(path.read_text()) for path in line.folder("evaluation").iterdir()}


def test_graphs_are_what_is_measured_behind_their_calibration(evaluated: dict[str, Any]) -> None:
    """Late is drawn by twice the score: at a temperature of 0.5 the network is calibrated."""
    choice, metrics = evaluated["choice"], evaluated["metrics"]
    assert (choice["best"], choice["measure"]) == ("network", "auc")
    assert set(choice["families"]) == set(metrics["families"]) == {"network", "trees"}
    assert metrics["families"]["network"]["ece"] < 0.05
    assert metrics["families"]["trees"]["auc"] < metrics["families"]["network"]["auc"]
    assert metrics["differences"]["network"]["loss"]["value"] == 0.0


def test_who_looks_at_nothing_is_measured_beside_them(evaluated: dict[str, Any]) -> None:
    metrics = evaluated["metrics"]
    base, network = metrics["base"], metrics["families"]["network"]
    assert (base["auc"], base["rows"]) == (0.5, network["rows"])
    assert base["log_loss"] > network["log_loss"]
    assert metrics["problem"] == "binary"


def test_the_choice_and_the_measures_are_of_different_rows(evaluated: dict[str, Any]) -> None:
    chosen = evaluated["choice"]["rows"]
    assert chosen != evaluated["metrics"]["families"]["network"]["rows"]
    assert set(evaluated["metrics"]["slices"]["origin"]) == {"(unknown)", "EWR", "JFK", "LGA"}
    assert [b["rows"] for b in evaluated["metrics"]["calibration"]["network"]] != []


def test_large_numbers_keep_seven_digits_and_what_is_no_number_is_none() -> None:
    assert evaluate._round(123456.789) == 123456.8
    assert evaluate._round(0.12345678) == 0.123457
    assert evaluate._round(7) == 7
    assert [evaluate._round(value) for value in (None, float("nan"), float("inf"))] == [None] * 3
