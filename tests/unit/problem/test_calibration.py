"""What is fitted to answers: a temperature, a threshold, a margin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.problem import BINARY, MULTICLASS, REGRESSION
from slipway.problem import calibration as fitting

SEEDS = st.integers(0, 2**32 - 1)


def answered(seed: int, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng(seed)
    answers = dice.integers(1, 20, rows) / 20.0  # with ties
    labels = np.concatenate([[0, 1], (dice.random(rows - 2) < answers[2:]).astype(int)])
    return labels, answers


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_scores_too_sure_is_found(true):
    dice = np.random.default_rng(4)
    honest = dice.normal(0, 2, (40_000, 1))
    labels = (dice.random(40_000) < BINARY.respond(honest, 1.0)).astype(int)
    found = fitting.fit_temperature(BINARY, labels, honest * true, None)
    assert found == pytest.approx(true, rel=0.05)


@given(SEEDS)
def test_no_temperature_makes_the_loss_worse_on_the_rows_that_it_was_fitted_on(seed):
    dice = np.random.default_rng(seed)
    labels, scores = dice.integers(0, 3, 60), dice.normal(0, 2, (60, 3))
    found = fitting.fit_temperature(MULTICLASS, labels, scores, None)
    loss = MULTICLASS.stopping
    cooled, as_it_was = (loss(labels, MULTICLASS.respond(scores, t)) for t in (found, 1.0))
    assert cooled <= as_it_was + 1e-9


def test_a_number_has_no_temperature():
    assert fitting.fit_temperature(REGRESSION, np.ones(3), np.ones((3, 1)), None) == 1.0


@given(SEEDS, st.floats(0.05, 0.95))
def test_a_threshold_finds_the_recall_that_was_asked_for_and_no_higher_one_does(seed, recall):
    labels, answers = answered(seed)
    at = fitting.threshold_for_recall(labels, answers, recall, None)
    found = (answers >= at) & (labels == 1)
    assert found.sum() >= recall * labels.sum() - 1e-9
    higher = answers[answers > at]
    if higher.size:
        assert ((answers >= higher.min()) & (labels == 1)).sum() < recall * labels.sum()


@given(SEEDS, st.floats(0.05, 0.95))
def test_a_threshold_keeps_the_precision_that_was_asked_for(seed, precision):
    labels, answers = answered(seed)
    at = fitting.threshold_for_precision(labels, answers, precision, None)
    if at is None:
        assert all(labels[answers >= each].mean() < precision for each in np.unique(answers))
    else:
        assert labels[answers >= at].mean() >= precision - 1e-9


@given(SEEDS, st.floats(0.05, 0.95))
def test_a_threshold_takes_no_more_rows_than_were_asked_for(seed, share):
    _, answers = answered(seed)
    at = fitting.threshold_for_share(answers, share, None)
    assert (answers >= at).mean() <= share + 1e-9 or at == answers.max()


def test_the_threshold_of_a_cost_is_where_both_mistakes_cost_the_same():
    assert fitting.threshold_for_cost(1) == 0.5
    assert fitting.threshold_for_cost(9) == pytest.approx(0.1)


@given(SEEDS)
def test_weights_move_a_threshold_as_doubled_rows_do(seed):
    labels, answers = answered(seed, rows=60)
    weights = np.random.default_rng(seed).integers(1, 4, 60)
    twice = np.repeat(np.arange(60), weights)
    weighed = fitting.threshold_for_recall(labels, answers, 0.7, weights.astype(float))
    assert weighed == fitting.threshold_for_recall(labels[twice], answers[twice], 0.7, None)


def test_a_margin_covers_as_many_new_rows_as_was_asked_for():
    dice = np.random.default_rng(2)
    covered = []
    for _ in range(300):
        residuals = dice.normal(0, 1, 100)
        margin = fitting.fit_margin(residuals, np.zeros(100), 0.9)
        covered.append(fitting.coverage(dice.normal(0, 1, 200), np.zeros(200), margin, None))
    assert 0.89 < np.mean(covered) < 0.92


def test_too_few_rows_give_no_margin():
    assert fitting.fit_margin(np.arange(5.0), np.zeros(5), 0.9) == float("inf")
