"""How new data differs from what was accepted, and whether that is within limits."""

from dataclasses import replace
from typing import Any

import pytest

from slipway.config import AcceptLimits
from tasks.profiles import ColumnProfile, SourceProfile
from tasks.source_changes import compare, describe, outside

SIZE = ColumnProfile("float64", nulls=10, low=0.0, high=100.0)
KIND = ColumnProfile("string", nulls=0, distinct=2, frequent={"a": 600, "b": 400})
YEAR = ColumnProfile("int64", nulls=0, low=2024, high=2024)
BEFORE = SourceProfile(
    sha256="a" * 64,
    size_bytes=5000,
    rows=1000,
    reads={"size": "float64", "kind": "string", "year": "int64"},
    columns={"size": SIZE, "kind": KIND, "year": YEAR},
    unread={"note": ""},
)
LIMITS = AcceptLimits(
    rows_shrink_max=0.1,
    rows_grow_max=2.0,
    null_share_change_max=0.05,
    range_widen_max=1.5,
    new_columns=False,
)


def changed(problem: str | None = None, **fields: Any):
    now = replace(BEFORE, **{"sha256": "b" * 64, **fields})
    (change,) = compare({"t": BEFORE}, {"t": now}, {"t": problem} if problem else {})
    return change


def with_column(name: str, **fields: Any):
    columns = dict(BEFORE.columns)
    return changed(columns={**columns, name: replace(columns[name], **fields)})


def test_the_same_bytes_are_no_change():
    assert compare({"t": BEFORE}, {"t": replace(BEFORE, rows=1)}, {}) == ()


def test_other_bytes_with_the_same_content_are_shown_and_within_every_limit():
    change = changed(size_bytes=5001)
    assert describe(change) == ["t: bytes 5,000 -> 5,001, rows 1,000 -> 1,000 (+0.0 %)"]
    assert outside(change, LIMITS) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (900, []),
        (2000, []),
        (899, ["t: rows 1,000 -> 899, 10.1 % fewer; at most 10.0 %"]),
        (0, ["t: rows 1,000 -> 0, 100.0 % fewer; at most 10.0 %"]),
        (2001, ["t: rows 1,000 -> 2,001; at most 2 times as many"]),
    ],
)
def test_rows_may_shrink_and_grow_within_limits(rows: int, said: list[str]):
    columns = {k: replace(c, nulls=round(c.nulls * rows / 1000)) for k, c in BEFORE.columns.items()}
    assert outside(changed(rows=rows, columns=columns), LIMITS) == said


@pytest.mark.parametrize(
    ("nulls", "low", "high", "said"),
    [
        (60, 0.0, 100.0, None),
        (61, 0.0, 100.0, "size: nulls 1.0 % -> 6.1 %; at most 5.0 % apart"),
        (10, -25.0, 125.0, None),
        (10, 40.0, 60.0, None),
        (10, 0.0, 151.0, "size: range 0..100 -> 0..151, 1.51 times as wide; at most 1.5 times"),
        (10, 200.0, 201.0, "size: range 0..100 -> 200..201, 2.01 times as wide; at most 1.5 times"),
        (
            10,
            0.0,
            float("inf"),
            "size: range 0..100 -> 0..inf, infinitely wider; at most 1.5 times",
        ),
        (1000, None, None, "size: nulls 1.0 % -> 100.0 %; at most 5.0 % apart"),
    ],
)
def test_a_columns_nulls_and_range_may_move_within_limits(nulls, low, high, said):
    found = outside(with_column("size", nulls=nulls, low=low, high=high), LIMITS)
    assert found == ([f"t: {said}"] if said else [])


def test_nulls_that_get_values_are_a_change_too():
    before = replace(BEFORE, columns={"size": replace(SIZE, nulls=900)})
    now = replace(before, sha256="b" * 64, columns={"size": replace(SIZE, nulls=0)})
    (change,) = compare({"t": before}, {"t": now}, {})
    assert outside(change, LIMITS) == ["t: size: nulls 90.0 % -> 0.0 %; at most 5.0 % apart"]


def test_a_constant_that_moves_is_outside_of_any_factor():
    change = with_column("year", low=2024, high=2025)
    assert outside(change, LIMITS) == [
        "t: year: range 2024..2024 -> 2024..2025, infinitely wider; at most 1.5 times"
    ]


def test_times_are_shown_but_have_no_factor():
    at = ColumnProfile("datetime", 0, "2024-01-01T00:00:00", "2024-02-01T00:00:00")
    before = replace(BEFORE, columns={"at": at})
    now = replace(before, sha256="b" * 64, columns={"at": replace(at, high="2034-01-01T00:00:00")})
    (change,) = compare({"t": before}, {"t": now}, {})
    assert outside(change, LIMITS) == []
    assert "2034-01-01T00:00:00" in describe(change)[1]


def test_columns_that_come_go_and_change_type_are_named():
    columns = {"size": replace(SIZE, type="int64"), "kind": KIND, "year": YEAR}
    change = changed(columns=columns, unread={"tail": "int32"})
    assert describe(change)[1:] == [
        "  column added: tail (not read)",
        "  column removed: note",
        "  column retyped: size float64 -> int64",
    ]
    assert outside(change, LIMITS) == [
        "t: column note was removed",
        "t: column size was float64, is int64",
        "t: column tail is new; new_columns is false",
    ]
    allowed = LIMITS.model_copy(update={"new_columns": True})
    assert len(outside(change, allowed)) == 2


def test_a_column_that_the_config_begins_to_read_is_no_new_one():
    note = ColumnProfile("string", nulls=0, distinct=1)
    change = changed(columns={**BEFORE.columns, "note": note}, unread={})
    assert outside(change, LIMITS) == []


def test_values_that_become_frequent_or_rare_are_shown():
    change = with_column("kind", distinct=3, frequent={"a": 500, "c": 400})
    assert describe(change)[1:] == [
        "  kind: values 2 -> 3; now frequent: c; now rare or gone: b",
    ]
    assert outside(change, LIMITS) == []


def test_what_cannot_be_read_is_outside_of_any_limits():
    change = changed("no column size", rows=None, columns={})
    assert outside(change, LIMITS) == ["t: cannot be read as the config says: no column size"]
    assert "cannot be read as the config says: no column size" in describe(change)[1]


def test_a_new_source_and_one_that_is_gone_are_shown_and_hold_nobody_up():
    changes = compare({"old": BEFORE}, {"new": BEFORE}, {})
    assert [describe(change)[0] for change in changes] == [
        "new: a new source, 5,000 bytes, 1,000 rows",
        "old: no source any more",
    ]
    assert [outside(change, LIMITS) for change in changes] == [[], []]


def test_data_that_was_accepted_without_a_profile_cannot_be_compared():
    before = SourceProfile("c" * 64, 10, rows=None, reads={})
    (change,) = compare({"t": before}, {"t": BEFORE}, {})
    assert outside(change, LIMITS) == [
        "t: there is no profile of the accepted data to hold it against"
    ]
    assert describe(change) == ["t: bytes 10 -> 5,000, rows unknown -> 1,000"]


def test_rows_that_appear_where_there_were_none_are_outside():
    before = replace(BEFORE, rows=0, columns={})
    (change,) = compare({"t": before}, {"t": replace(BEFORE, sha256="b" * 64)}, {})
    assert outside(change, LIMITS)[0] == "t: rows 0 -> 1,000; at most 2 times as many"
