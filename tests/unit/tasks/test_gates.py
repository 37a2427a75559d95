"""Which candidates are tried in which order, which families are out, and which one is chosen."""

from pathlib import Path

import pytest

from tasks import gates
from tasks.candidates import CandidateModel, candidate_of, in_order, parse
from tests.small_models import DYNAMIC, FP32, STATIC, TREES

PASSES = {"verdict": "pass", "reason": None, "gates": []}
FAILS = {"verdict": "fail", "reason": "outside its limit: AUC", "gates": []}


def test_every_familys_reference_is_tried_before_any_cheaper_form() -> None:
    found = dict.fromkeys((DYNAMIC, TREES, STATIC, FP32), 0)
    assert list(in_order(found, ["network", "trees"])) == [FP32, TREES, STATIC, DYNAMIC]
    assert list(in_order(found, ["trees", "network"])) == [TREES, FP32, STATIC, DYNAMIC]


def test_a_family_that_is_not_preferred_at_all_is_not_tried() -> None:
    assert list(in_order(dict.fromkeys((TREES, FP32), 0), ["trees"])) == [TREES]


def test_a_candidate_is_known_by_its_path_and_by_its_name() -> None:
    assert candidate_of(Path("models/flights/network/int8-static")) == STATIC
    assert candidate_of(Path("models/flights/network/weights")) is None
    assert [parse(str(each)) for each in (FP32, STATIC, TREES)] == [FP32, STATIC, TREES]


@pytest.mark.parametrize(
    ("passing", "rounds", "chosen"),
    [
        ([FP32, STATIC], {FP32: [10, 10, 10], STATIC: [8, 8, 8]}, STATIC),
        ([FP32, STATIC], {FP32: [10, 10, 10], STATIC: [8, 8, 9.5]}, FP32),
        ([FP32, STATIC], {FP32: [10, 20, 10], STATIC: [9, 18, 9]}, STATIC),
        ([FP32, TREES], {FP32: [10, 10], TREES: [9.1, 9.1]}, FP32),
        ([FP32, TREES], {FP32: [10, 10], TREES: [1, 1]}, TREES),
        ([FP32, TREES, STATIC], {FP32: [10, 10], TREES: [8, 8], STATIC: [7, 7]}, STATIC),
        # what is held is what a later one must beat, not the first of all
        ([FP32, TREES, STATIC], {FP32: [10, 10], TREES: [5, 5], STATIC: [4.8, 4.8]}, TREES),
        # near-equals never swap, however many there are
        (
            [FP32, TREES, STATIC, DYNAMIC],
            {FP32: [10, 10], TREES: [9.5, 9.5], STATIC: [9.2, 9.2], DYNAMIC: [9.05, 9.05]},
            FP32,
        ),
        ([FP32], {FP32: [10, 10], STATIC: [1, 1]}, FP32),
        # the first that passes is held, also where it is no reference
        ([STATIC, DYNAMIC], {FP32: [1, 1], STATIC: [12, 12], DYNAMIC: [11, 11]}, STATIC),
        ([STATIC, DYNAMIC], {FP32: [1, 1], STATIC: [12, 12], DYNAMIC: [10, 10]}, DYNAMIC),
        ([], {FP32: [10, 10]}, None),
    ],
)
def test_the_first_stays_unless_a_later_one_clearly_beats_what_is_held_in_every_round(
    passing: list[CandidateModel],
    rounds: dict[CandidateModel, list[float]],
    chosen: CandidateModel | None,
) -> None:
    assert gates.choose(passing, rounds, 0.1) == chosen


@pytest.mark.parametrize(
    ("loss", "stays"),
    [
        ({"value": 0.0, "low": 0.0, "high": 0.0}, True),
        ({"value": 0.004, "low": 0.001, "high": 0.01}, True),
        ({"value": 0.004, "low": 0.001, "high": 0.0101}, False),  # it may lose too much
        ({"value": -0.02, "low": -0.05, "high": 0.02}, False),
        (None, False),
    ],
)
def test_a_family_stays_while_the_upper_end_of_what_it_loses_is_within_the_margin(
    loss: dict[str, float] | None, stays: bool
) -> None:
    assert gates.stays(loss, 0.01) == stays


def test_the_reason_of_a_family_that_is_out_says_what_it_loses_and_what_is_allowed() -> None:
    loss = {"value": 0.0312, "low": 0.02, "high": 0.0412}
    assert gates.behind(loss, "trees", 0.01) == (
        "loses 0.0312 to trees on the rows that choose, up to 0.0412 in 95 of 100; 0.01 is allowed"
    )
    assert gates.behind(None, "trees", 0.01) == (
        "cannot be compared with trees on the rows that choose"
    )


def test_every_candidate_that_passes_is_told_why_it_was_chosen_or_not() -> None:
    results = {FP32: PASSES, TREES: PASSES, STATIC: PASSES, DYNAMIC: FAILS}
    found = gates.explain_choice(results, FP32, {"trees": "loses 0.1"})
    assert {name: result["reason"] for name, result in found.items()} == {
        "network-fp32": (
            "chosen: no other candidate that passes is good enough and clearly cheaper"
        ),
        "trees-fp32": "passes, but trees loses 0.1",
        "network-int8-static": "passes, but is not clearly cheaper than network-fp32",
        "network-int8-dynamic": "outside its limit: AUC",
    }
