"""What a target must hold for a problem to be posed by it."""

import math

import pytest

from slipway.errors import SlipwayError
from slipway.problem import BINARY, MULTICLASS, REGRESSION, Target, TargetValues

LATE = Target("late", "binary", (0, 1))
KIND = Target("kind", "multiclass", ("a", "b", "c"))
PRICE = Target("price", "regression")


def values(kind: str, *found: object, rows: int = 10, **changes: object) -> TargetValues:
    return TargetValues(kind, rows, counts=dict.fromkeys(found, 5), **changes)  # type: ignore[arg-type]


def fault(problem, target, found) -> str | None:
    try:
        problem.check_target(target, found, "the rows")
    except SlipwayError as error:
        return str(error).removeprefix(f"target {target.name!r} ")
    return None


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (values("whole number", 0, 1), None),
        (
            values("whole number", 1),
            "must hold 0, 1 in the rows, found only 1; there is no row of 0",
        ),
        (values("whole number", 0, 1, 2), "must hold 0, 1 only in the rows, found 2"),
        (
            values("truth value", False, True),
            "must hold 0, 1 only in the rows, found False, True",
        ),
        (
            values("text", "0", "1"),
            "must hold 0, 1 only in the rows, found '0', '1'; they are of the type str there:"
            " write them so in ingest.target",
        ),
        (
            values("whole number", 0, 1, missing=3),
            "has no value in 3 of 10 rows of the rows; leave them out in ingest.query (WHERE late"
            " IS NOT NULL)",
        ),
        (values("text"), "must hold 0, 1 in the rows, found only none; there is no row of 0, 1"),
    ],
)
def test_one_of_two_outcomes_must_hold_both_and_nothing_else(found, said):
    assert fault(BINARY, LATE, found) == said


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (values("text", "a", "b", "c"), None),
        (values("text", "a", "b"), None),  # a small part may lack a class
        (
            values("text", "a"),
            "must hold at least two of its classes in the rows, found only 'a'",
        ),
        (values("text", "a", "b", "x"), "must hold 'a', 'b', 'c' only in the rows, found 'x'"),
    ],
)
def test_several_classes_must_be_named_and_differ(found, said):
    assert fault(MULTICLASS, KIND, found) == said


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (values("number", 0.5, 2.5, more_values=True), None),
        (values("whole number", 1, 2), None),
        (values("number", 2.5), "must vary in the rows, is 2.5 in every row"),
        (
            values("text", "12 kg"),
            "must be a number in the rows, is a text (12 kg); CAST it in ingest.query, without"
            " units and thousands separators",
        ),
        (
            values("number", 0.5, 1.5, not_finite=2),
            "has NaN or an infinite value in 2 of 10 rows of the rows; leave them out in"
            " ingest.query (WHERE isfinite(price))",
        ),
        (
            values("number", 0.5, 1.5, missing=1),
            "has no value in 1 of 10 rows of the rows; leave them out in ingest.query (WHERE"
            " isfinite(price))",
        ),
    ],
)
def test_a_number_must_be_one_in_every_row_and_vary(found, said):
    assert fault(REGRESSION, PRICE, found) == said


@pytest.mark.parametrize(
    ("target", "own", "labels"),
    [
        (LATE, [0, 1, None, 1], [0, 1, -1, 1]),
        (LATE, [True, "1", 1.0], [-1, -1, -1]),  # another type is another value
        (KIND, ["c", "a", "x"], [2, 0, -1]),
        (Target("ok", "binary", (False, True)), [True, False, 1], [1, 0, -1]),
    ],
)
def test_labels_are_places_of_classes_and_unknown_ones_are_below_zero(target, own, labels):
    assert target.encode(own).tolist() == labels


def test_labels_of_a_number_are_the_number_and_come_back():
    labels = PRICE.encode([1, 2.5, None])
    assert labels[:2].tolist() == [1.0, 2.5]
    assert math.isnan(labels[2])
    assert PRICE.decode(labels[:2]) == [1.0, 2.5]
    assert KIND.decode(KIND.encode(["b", "a"])) == ["b", "a"]
