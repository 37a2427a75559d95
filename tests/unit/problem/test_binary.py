"""The measures of a binary problem, against their definitions and scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from slipway.problem import BINARY
from slipway.problem.binary import auc, average_precision, brier, calibration_error, log_loss


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),  # the example of scikit-learn's roc_auc_score
        ([0, 1], [0.2, 0.9], 1.0),
        ([0, 1], [0.9, 0.2], 0.0),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5),
        ([0, 0, 1], [0.1, 0.5, 0.5], 0.75),
        ([1, 1], [0.1, 0.5], None),
        ([], [], None),
    ],
)
def test_auc_counts_pairs_in_order_and_ties_half(labels, scores, expected):
    assert auc(np.array(labels, np.int64), np.array(scores, float)) == expected


def test_auc_agrees_with_counting_every_pair():
    random = np.random.default_rng(7)
    labels = random.integers(0, 2, 200)
    scores = random.integers(0, 20, 200) / 20.0  # many ties
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in scores[labels == 1]
        for n in scores[labels == 0]
    ]
    assert auc(labels, scores) == pytest.approx(np.mean(pairs))


def test_log_loss_is_the_mean_negative_log_likelihood():
    found = log_loss(np.array([1, 0]), np.array([0.8, 0.1]))
    assert found == pytest.approx(-(np.log(0.8) + np.log(0.9)) / 2)


def test_a_sure_and_wrong_answer_costs_much_but_not_infinity():
    assert log_loss(np.array([1]), np.array([0.0])) == pytest.approx(15.94, abs=0.01)


@st.composite
def answered(draw):
    """Labels of both classes, and probabilities with ties among them."""
    rows = draw(st.integers(2, 60))
    labels = np.array([0, 1, *draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows))])
    few = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.999, 1.0])
    answers = draw(st.lists(few, min_size=labels.size, max_size=labels.size))
    return labels, np.array(answers, np.float32)


@given(answered())
def test_every_measure_is_the_one_that_the_field_knows(rows):
    labels, answers = rows
    clipped = np.clip(answers.astype(float), np.finfo(np.float32).eps, 1 - np.finfo(np.float32).eps)
    assert auc(labels, answers) == pytest.approx(metrics.roc_auc_score(labels, answers))
    assert log_loss(labels, answers) == pytest.approx(metrics.log_loss(labels, clipped))
    assert brier(labels, answers) == pytest.approx(metrics.brier_score_loss(labels, answers))
    assert average_precision(labels, answers) == pytest.approx(
        metrics.average_precision_score(labels, answers)
    )


@given(answered(), st.integers(0, 2**32 - 1))
def test_a_row_of_weight_two_counts_like_two_rows(rows, seed):
    labels, answers = rows
    weights = np.random.default_rng(seed).integers(1, 4, labels.size)
    twice = np.repeat(np.arange(labels.size), weights)
    for measure in BINARY.measures:
        if measure.key != "ece":  # its bins hold so many rows each, whatever they weigh
            weighed = measure(labels, answers, weights.astype(float))
            assert weighed == pytest.approx(measure(labels[twice], answers[twice])), measure.key


@given(answered())
def test_the_order_of_rows_changes_no_measure(rows):
    labels, answers = rows
    turned = BINARY.measure(labels[::-1], answers[::-1])
    for key in ("auc", "log_loss", "brier"):
        assert turned[key] == pytest.approx(BINARY.measure(labels, answers)[key])


@given(answered())
def test_turning_labels_and_answers_around_changes_no_measure(rows):
    labels, answers = rows
    exact = answers.astype(float)
    turned = BINARY.measure(1 - labels, 1 - exact)
    for key in ("auc", "log_loss", "brier"):
        assert turned[key] == pytest.approx(BINARY.measure(labels, exact)[key], abs=1e-6)


def test_answers_that_come_true_as_often_as_they_say_have_no_calibration_error():
    labels = np.tile([0, 0, 0, 1], 60)
    assert calibration_error(labels, np.full(240, 0.25)) == pytest.approx(0.0)
    assert calibration_error(labels, np.full(240, 0.45)) == pytest.approx(0.2)


def test_what_is_no_number_is_never_a_good_measure():
    answers = np.array([0.2, np.nan])
    for measure in BINARY.measures:
        value = measure(np.array([0, 1]), answers)
        assert np.isnan(value)
        assert not measure.at_least_as_good(value, value)


def test_without_rows_nothing_can_be_told():
    nothing = np.empty(0)
    assert set(BINARY.measure(nothing, nothing).values()) == {None}


@pytest.mark.parametrize("measure", BINARY.measures, ids=lambda measure: measure.key)
def test_a_value_just_within_its_allowed_loss_is_good_enough_and_one_beyond_is_not(measure):
    limit = measure.worst_allowed(0.5, 0.1)
    assert measure.loss(limit, 0.5) == pytest.approx(0.1)
    assert measure.at_least_as_good(limit, limit)
    assert not measure.at_least_as_good(measure.worst_allowed(limit, 0.01), limit)
    assert measure.best([limit, 0.5]) == 0.5
