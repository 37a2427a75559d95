import itertools
from dataclasses import replace

import numpy as np
import pytest

from slipway.config import ReleaseLimits
from slipway.fleet.judge import (
    REQUESTS_MIN,
    Traffic,
    auc,
    check_answers,
    conclude,
    error_free,
    judge,
    log_loss,
)

LIMITS = ReleaseLimits(
    error_share_rise_max=0.01,
    auc_drop_max=0.01,
    log_loss_rise_max=0.01,
    p99_ratio_max=2.0,
    p99_slack_ms=5.0,
)
LABELS = np.array([i % 3 == 0 for i in range(300)], dtype=np.int64)
GOOD = np.where(LABELS == 1, 0.6, 0.3) + np.linspace(-0.25, 0.25, LABELS.size)


def traffic(version="c", answers=GOOD, latency_ms=10.0, failed=0, requests=100, golden="g"):
    answered = requests - failed
    rows = np.arange(answers.size)
    return Traffic(
        version=version,
        requests=requests,
        errors={"HTTP 500: the model failed": failed} if failed else {},
        latencies_ms=np.full(answered, latency_ms),
        golden=golden,
        questions=rows,
        golden_rows=rows,
        labels=LABELS[: answers.size],
        answers=answers,
    )


def without_rows(side, keep):
    return replace(
        side,
        questions=side.questions[keep],
        golden_rows=side.golden_rows[keep],
        labels=side.labels[keep],
        answers=side.answers[keep],
    )


def line(verdict, measure):
    return next(line for line in verdict.lines if line.measure == measure)


def test_a_candidate_that_answers_like_stable_is_promoted():
    verdict = judge(traffic(), traffic("s"), LIMITS)
    assert (verdict.decision, verdict.reason) == ("promote", "every measure is within its limit")
    assert [x.verdict for x in verdict.lines] == ["pass", "pass", "pass", "pass", "reported"]


@pytest.mark.parametrize(
    ("candidate", "measure"),
    [
        (traffic(failed=3), "error share"),
        (traffic(answers=1.0 - GOOD), "AUC"),
        (traffic(answers=GOOD**4), "log loss"),
        (traffic(latency_ms=20.1), "p99 ms"),
    ],
)
def test_one_measure_outside_its_limit_rejects_and_is_named_with_its_numbers(candidate, measure):
    verdict = judge(candidate, traffic("s"), LIMITS)
    assert verdict.decision == "reject"
    assert line(verdict, measure).verdict == "fail"
    assert f"{measure} is " in verdict.reason
    assert "limit" in verdict.reason
    assert "(stable " in verdict.reason


def test_every_failed_measure_is_named_not_only_the_first():
    verdict = judge(traffic(latency_ms=99.0, failed=50), traffic("s"), LIMITS)
    assert len(verdict.reasons) == 2


@pytest.mark.parametrize("latency_ms", [0.1, 1.0, 10.0, 1000.0])
def test_a_slow_afternoon_that_slows_both_sides_undoes_nothing(latency_ms):
    verdict = judge(traffic(latency_ms=latency_ms), traffic("s", latency_ms=latency_ms), LIMITS)
    assert verdict.decision == "promote"


def test_a_difference_within_the_slack_is_not_held_against_a_fast_model():
    verdict = judge(traffic(latency_ms=5.9), traffic("s", latency_ms=1.0), LIMITS)
    assert verdict.decision == "promote"
    assert line(verdict, "p99 ms").limit == 6.0


def test_the_ratio_counts_where_it_allows_more_than_the_slack():
    assert judge(traffic(latency_ms=199.0), traffic("s", latency_ms=100.0), LIMITS).decision == (
        "promote"
    )
    assert judge(traffic(latency_ms=201.0), traffic("s", latency_ms=100.0), LIMITS).decision == (
        "reject"
    )


def test_errors_that_stable_has_too_are_not_the_candidates_fault():
    verdict = judge(traffic(failed=20), traffic("s", failed=20), LIMITS)
    assert verdict.decision == "promote"


def test_a_candidate_may_be_better_than_stable_without_limit():
    worse = traffic("s", answers=1.0 - GOOD, latency_ms=500.0, failed=40)
    assert judge(traffic(), worse, LIMITS).decision == "promote"


@pytest.mark.parametrize(("mine", "theirs"), [*itertools.product([0, 49, 50], repeat=2)])
def test_too_little_traffic_on_either_side_is_no_reason_to_promote(mine, theirs):
    verdict = judge(traffic(requests=mine), traffic("s", requests=theirs), LIMITS)
    enough = min(mine, theirs) >= REQUESTS_MIN
    assert verdict.decision == ("promote" if enough else "wait")
    assert enough or f"only {mine if mine < 50 else theirs} requests" in verdict.reason


def test_a_candidate_that_fails_is_rejected_even_after_little_traffic():
    verdict = judge(traffic(requests=20, failed=20), traffic("s", requests=20), LIMITS)
    assert verdict.decision == "reject"
    assert "the model failed" in verdict.reason


def test_rows_of_one_class_give_no_auc_so_it_waits():
    ones = replace(traffic(), labels=np.ones(300, np.int64))
    verdict = judge(ones, replace(ones, version="s"), LIMITS)
    assert verdict.decision == "wait"
    assert "AUC cannot be compared" in verdict.reason


def test_only_rows_that_both_sides_answered_are_compared():
    # stable lost the rows it is good at; on the rows that are left, both are equal
    half = LABELS.size // 2
    mine = traffic(answers=np.concatenate([GOOD[:half], 1 - GOOD[half:]]))
    theirs = without_rows(traffic("s"), np.arange(half))
    verdict = judge(mine, theirs, LIMITS)
    assert verdict.decision == "promote"
    assert line(verdict, "AUC").candidate == line(verdict, "AUC").stable


def test_rows_that_came_in_another_order_are_matched_by_their_question():
    backwards = without_rows(traffic("s"), np.arange(LABELS.size)[::-1])
    assert line(judge(traffic(), backwards, LIMITS), "largest difference").candidate == 0.0


def test_the_difference_of_answers_is_reported_and_never_rejects():
    moved = traffic(answers=GOOD + 1e-3)
    found = line(judge(moved, traffic("s"), LIMITS), "largest difference")
    assert found.candidate == pytest.approx(1e-3)
    assert found.verdict == "reported"


def test_sides_that_were_asked_other_golden_rows_are_compared_by_quality_on_their_own():
    others = without_rows(traffic("s", golden="other"), np.arange(100))
    verdict = judge(
        traffic(), others, LIMITS.model_copy(update={"log_loss_rise_max": 1.0, "auc_drop_max": 0.1})
    )
    assert verdict.decision == "promote"
    assert line(verdict, "largest difference").candidate is None
    # bad only on rows whose numbers the other set does not have: they count all the same
    bad_later = np.concatenate([GOOD[:100], 1 - GOOD[100:]])
    verdict = judge(
        traffic(answers=bad_later),
        others,
        LIMITS.model_copy(update={"log_loss_rise_max": 1.0, "auc_drop_max": 0.1}),
    )
    assert (verdict.decision, line(verdict, "AUC").verdict) == ("reject", "fail")


def test_nothing_answered_at_all_is_told_without_a_division_by_zero():
    nothing = without_rows(traffic(requests=0), np.arange(0))
    verdict = judge(nothing, replace(nothing, version="s"), LIMITS)
    assert verdict.decision == "wait"


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


def test_answers_over_the_wire_must_be_those_that_were_proven():
    asked = replace(traffic(), golden_rows=np.arange(300) % 100)
    expected = asked.answers[:100].copy()
    asked = replace(asked, answers=np.tile(expected, 3))
    assert check_answers(asked, expected, 1e-6, "probability").verdict == "pass"
    off = expected.copy()
    off[42] += 2e-6
    found = check_answers(asked, off, 1e-6, "probability")
    assert (found.verdict, found.candidate) == ("fail", pytest.approx(2e-6))


def test_no_answer_at_all_is_not_as_proven():
    nothing = without_rows(traffic(requests=0), np.arange(0))
    assert check_answers(nothing, GOOD, 1e-6, "probability").verdict == "unknown"


def test_a_first_release_allows_no_failed_request():
    assert error_free(traffic()).verdict == "pass"
    assert conclude((error_free(traffic(failed=1)),)).decision == "reject"
