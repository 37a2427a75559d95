"""The measures of several classes and of numbers, against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from slipway.problem import MULTICLASS, PROBLEMS, REGRESSION, Target
from slipway.problem import regression as numbers

SEEDS = st.integers(0, 2**32 - 1)


def classes(seed: int, size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Labels in which every class occurs, and probabilities with ties among them."""
    dice = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(size), dice.integers(0, size, 40)])
    scores = dice.integers(0, 6, (labels.size, size)).astype(float)
    return labels, MULTICLASS.respond(scores, 1.0)


def amounts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng(seed)
    labels = dice.normal(50, 20, 60)
    return labels, labels + dice.normal(0, 8, 60)


@given(SEEDS)
def test_every_measure_of_classes_is_the_one_that_the_field_knows(seed):
    labels, answers = classes(seed)
    said = answers.argmax(axis=1)
    found = MULTICLASS.measure(labels, answers)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(labels, answers))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, said))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, said, average="macro"))
    assert found["auc_ovr"] == pytest.approx(
        metrics.roc_auc_score(labels, answers, multi_class="ovr")
    )


@given(SEEDS)
def test_every_measure_of_numbers_is_the_one_that_the_field_knows(seed):
    labels, answers = amounts(seed)
    found = REGRESSION.measure(labels, answers)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(labels, answers))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(labels, answers))
    assert found["r2"] == pytest.approx(metrics.r2_score(labels, answers))
    assert numbers.pinball(labels, answers, 0.9) == pytest.approx(
        metrics.mean_pinball_loss(labels, answers, alpha=0.9)
    )


@pytest.mark.parametrize(("problem", "make"), [(MULTICLASS, classes), (REGRESSION, amounts)])
@given(SEEDS)
def test_a_row_of_weight_two_counts_like_two_rows(problem, make, seed):
    labels, answers = make(seed)
    weights = np.random.default_rng(seed).integers(1, 4, labels.size)
    twice = np.repeat(np.arange(labels.size), weights)
    for measure in problem.measures:
        if measure.key != "ece":
            weighed = measure(labels, answers, weights.astype(float))
            assert weighed == pytest.approx(measure(labels[twice], answers[twice])), measure.key


@pytest.mark.parametrize(("problem", "make"), [(MULTICLASS, classes), (REGRESSION, amounts)])
@given(SEEDS)
def test_the_order_of_rows_changes_no_measure(problem, make, seed):
    labels, answers = make(seed)
    turned = problem.measure(labels[::-1], answers[::-1])
    for measure in problem.measures:
        if measure.key != "ece":
            assert turned[measure.key] == pytest.approx(measure(labels, answers)), measure.key


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=list(PROBLEMS))
def test_without_rows_nothing_can_be_told_and_what_is_no_number_is_never_good(problem):
    per_class = problem.output.per_class
    nothing = np.empty((0, 3)) if per_class else np.empty(0)
    assert set(problem.measure(np.empty(0), nothing).values()) == {None}
    nan = np.full((2, 3) if per_class else 2, np.nan)
    assert all(np.isnan(v) for v in problem.measure(np.array([0, 1]), nan).values())


def test_a_loss_in_the_targets_unit_is_told_as_a_share():
    rmse = REGRESSION.primary
    assert rmse.loss(110.0, 100.0) == pytest.approx(0.1)
    assert rmse.worst_allowed(200.0, 0.05) == pytest.approx(210.0)
    assert rmse.loss(0.5, 0.0) == float("inf")
    assert MULTICLASS.primary.loss(0.6, 0.5) == pytest.approx(0.1)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=list(PROBLEMS))
def test_the_one_answer_to_all_rows_is_the_best_of_its_kind(problem):
    labels = {"binary": [0, 0, 1], "multiclass": [0, 1, 1, 2], "regression": [1.0, 5.0, 3.0]}
    given = np.array(labels[problem.name])
    target = Target("y", problem.name, (0, 1, 2) if problem is MULTICLASS else ())
    one = problem.baseline(given, target, None)
    everywhere = np.broadcast_to(one, (given.size, *one.shape))
    best = problem.stopping(given, everywhere)
    for moved in (one * 0.9, one * 1.1):
        shares = moved / moved.sum() if problem is MULTICLASS else moved
        other = np.broadcast_to(shares, (given.size, *one.shape))
        assert problem.stopping(given, other) >= best - 1e-12


def test_a_heavier_row_moves_the_one_answer():
    given, weights = np.array([1.0, 5.0]), np.array([1.0, 3.0])
    assert REGRESSION.baseline(given, Target("y", "regression"), weights) == pytest.approx(4.0)
