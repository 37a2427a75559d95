import itertools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from slipway.config import ReleaseLimits
from slipway.fleet.answers import Apart
from slipway.fleet.judge import (
    REQUESTS_MIN,
    Scored,
    Traffic,
    check_answers,
    conclude,
    error_free,
    judge,
)
from slipway.fleet.numbers import numbers
from slipway.problem import BINARY

LIMITS = ReleaseLimits(
    error_share_rise_max=0.01,
    quality={"auc": 0.01, "log_loss": 0.01},
    p99_ratio_max=2.0,
    p99_slack_ms=5.0,
)
LABELS = np.array([i % 3 == 0 for i in range(300)], dtype=np.int64)
GOOD = np.where(LABELS == 1, 0.6, 0.3) + np.linspace(-0.25, 0.25, LABELS.size)


def traffic(
    version="c",
    answers=GOOD,
    latency_ms=10.0,
    failed=0,
    requests=100,
    golden="g",
    proven=None,
    apart=None,
):
    answered = requests - failed
    rows = np.arange(answers.size)
    return Traffic(
        version=version,
        requests=requests,
        errors={"HTTP 500: the model failed": failed} if failed else {},
        latencies_ms=np.full(answered, latency_ms),
        rows=answers.size,
        proven=proven or {},
        apart=apart or {},
        scored=Scored(
            problem=BINARY,
            golden=golden,
            questions=rows,
            labels=LABELS[: answers.size],
            answers=answers,
        ),
    )


def unlabelled(version="c", **fields):
    return replace(traffic(version, **fields), scored=None)


def without_rows(side, keep):
    scored = side.scored
    kept = replace(
        scored,
        questions=scored.questions[keep],
        labels=scored.labels[keep],
        answers=scored.answers[keep],
    )
    return replace(side, rows=len(keep), scored=kept)


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


def test_requests_that_hosts_did_not_serve_speak_neither_for_nor_against_the_candidate():
    verdict = judge(replace(traffic(failed=3), unserved=3), traffic("s"), LIMITS)
    assert verdict.decision == "wait"
    assert "3 requests were not served by their hosts" in verdict.reason


def test_errors_of_its_own_reject_a_candidate_whatever_its_hosts_did():
    verdict = judge(replace(traffic(failed=6), unserved=3), traffic("s"), LIMITS)
    assert verdict.decision == "reject"


def test_a_first_release_waits_for_hosts_that_serve():
    assert error_free(replace(traffic(failed=1), unserved=1)).verdict == "unknown"
    assert error_free(replace(traffic(failed=2), unserved=1)).verdict == "fail"


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
    side = traffic()
    ones = replace(side, scored=replace(side.scored, labels=np.ones(300, np.int64)))
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
        traffic(), others, LIMITS.model_copy(update={"quality": {"log_loss": 1.0, "auc": 0.1}})
    )
    assert verdict.decision == "promote"
    assert line(verdict, "largest difference").candidate is None
    # bad only on rows whose numbers the other set does not have: they count all the same
    bad_later = np.concatenate([GOOD[:100], 1 - GOOD[100:]])
    verdict = judge(
        traffic(answers=bad_later),
        others,
        LIMITS.model_copy(update={"quality": {"log_loss": 1.0, "auc": 0.1}}),
    )
    assert (verdict.decision, line(verdict, "AUC").verdict) == ("reject", "fail")


def test_nothing_answered_at_all_is_told_without_a_division_by_zero():
    nothing = without_rows(traffic(requests=0), np.arange(0))
    verdict = judge(nothing, replace(nothing, version="s"), LIMITS)
    assert verdict.decision == "wait"


def numbers_apart(largest, values=100):
    return Apart(values=values, largest=largest, total=largest)


def texts_apart(differing, values=100):
    return Apart(values=values, exact=True, differing=differing)


@pytest.mark.parametrize(
    ("largest", "verdict"), [(0.0, "pass"), (1e-6, "pass"), (1.1e-6, "fail"), (0.5, "fail")]
)
def test_answers_over_the_wire_must_be_those_that_were_proven(largest, verdict):
    found = check_answers(traffic(proven={"y": numbers_apart(largest)}), {"y": 1e-6})
    assert (found.verdict, found.candidate, found.limit) == (verdict, largest, 1e-6)
    assert found.detail == "y"


@pytest.mark.parametrize(("differing", "verdict"), [(0, "pass"), (1, "fail")])
def test_text_and_whole_numbers_must_be_equal_to_the_last_value(differing, verdict):
    found = check_answers(traffic(proven={"name": texts_apart(differing)}), {"name": 0.0})
    assert found.verdict == verdict
    assert found.detail == ("name: 1 of 100 values" if differing else "name")


def test_every_output_is_held_to_its_own_tolerance_and_the_worst_is_named():
    tolerance = {"wide": 1.0, "narrow": 1e-6, "class": 0.0}
    proven = {
        "wide": numbers_apart(0.5),
        "narrow": numbers_apart(2e-6),
        "class": texts_apart(0),
    }
    found = check_answers(traffic(proven=proven), tolerance)
    assert (found.verdict, found.candidate, found.limit) == ("fail", 2e-6, 1e-6)
    assert found.detail == "narrow, the furthest of 3 outputs"
    proven["class"] = texts_apart(3)
    assert check_answers(traffic(proven=proven), tolerance).detail.startswith("class: 3 of 100")
    proven |= {"narrow": numbers_apart(1e-7), "class": texts_apart(0)}
    assert check_answers(traffic(proven=proven), tolerance).verdict == "pass"
    proven = dict.fromkeys(proven, numbers_apart(0.0))
    told = check_answers(traffic(proven=proven), tolerance)
    assert (told.verdict, told.detail) == ("pass", "all 3 outputs, to the last digit")


def test_no_answer_at_all_is_not_as_proven():
    assert check_answers(traffic(requests=0), {"y": 1e-6}).verdict == "unknown"


def test_without_labels_on_both_sides_quality_is_not_spoken_of():
    for mine, theirs in itertools.product((traffic, unlabelled), repeat=2):
        labelled = mine is theirs is traffic
        verdict = judge(mine(), theirs("s"), LIMITS)
        quality = ["AUC", "log loss"] if labelled else []
        measures = ["error share", *quality, "p99 ms", "largest difference"]
        assert [each.measure for each in verdict.lines] == measures
        assert verdict.decision == "promote"


@pytest.mark.parametrize(
    ("candidate", "measure"),
    [(unlabelled(failed=3), "error share"), (unlabelled(latency_ms=20.1), "p99 ms")],
)
def test_without_labels_errors_and_latency_reject_as_they_always_do(candidate, measure):
    verdict = judge(candidate, unlabelled("s"), LIMITS)
    assert (verdict.decision, line(verdict, measure).verdict) == ("reject", "fail")


def test_without_labels_too_little_traffic_still_waits():
    assert judge(unlabelled(requests=49), unlabelled("s"), LIMITS).decision == "wait"


def test_without_labels_the_difference_of_every_output_is_told_the_largest_first():
    apart = {
        "class": texts_apart(7, 200),
        "mask": Apart(misshapen=50),
        "near": Apart(values=100, largest=0.25, total=5.0),
        "far": Apart(values=100, largest=1.5, total=50.0),
    }
    found = line(judge(unlabelled(apart=apart), unlabelled("s"), LIMITS), "largest difference")
    assert (found.candidate, found.verdict) == (1.5, "reported")
    assert found.detail == (
        "far: up to 1.5, mean 0.5 over 100 values; near: up to 0.25, mean 0.05 over 100 values;"
        " class: 7 of 200 values differ; 1 more"
    )
    only = {"mask": Apart(misshapen=50)}
    found = line(judge(unlabelled(apart=only), unlabelled("s"), LIMITS), "largest difference")
    assert (found.candidate, found.detail) == (None, "mask: another shape")


def test_the_numbers_of_any_model_are_json():
    side = unlabelled(proven={"y": numbers_apart(1e300), "class": texts_apart(3)})
    lines = (check_answers(side, {"y": 0.0, "class": 0.0}),)
    told = json.loads(json.dumps(numbers(lines, side), allow_nan=False))
    assert told["lines"][0]["verdict"] == "fail"
    assert told["candidate"]["rows"] == GOOD.size
    assert "auc" not in told["candidate"]
    assert asdict(lines[0]) == told["lines"][0]


def test_a_first_release_allows_no_failed_request():
    assert error_free(traffic()).verdict == "pass"
    assert conclude((error_free(traffic(failed=1)),)).decision == "reject"
