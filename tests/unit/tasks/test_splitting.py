"""Who trains, stops, chooses and tests: units as a whole, and nobody moves."""

from collections import Counter, defaultdict
from datetime import date, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from slipway.settings.split import Period
from tasks import splitting
from tasks.splitting import CHOOSE, STOP, TEST, TRAIN
from tests.unit.tasks.small_tables import (
    BY_GROUP,
    BY_ROWS,
    BY_TIME,
    GIVEN,
    facts_of,
    more_columns,
    split_of,
    with_column,
)

SPLITS = {"time": BY_TIME, "rows": BY_ROWS, "group": BY_GROUP, "given": GIVEN}
each_split = pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)


def parts_of(rows: pa.Table, split: dict[str, Any], **facts: Any) -> list[tuple[str, str | None]]:
    """Return every row's unit and part, in the order of the rows."""
    read, known = split_of(split), facts_of(rows, **facts)
    unit, part = splitting.unit_sql(read, known), splitting.part_sql(read, known)
    with duckdb.connect() as database:
        database.register("given_rows", rows)
        return database.execute(f"SELECT {unit}, {part} FROM given_rows").fetchall()


@each_split
def test_every_part_has_rows_and_every_row_has_one_part_or_none(split: dict[str, Any]):
    counts = Counter(part for _, part in parts_of(more_columns(), split))
    # of the given parts, two values say nothing that the config knows; the hash parts all
    outside = {None} if split["by"] == "given" else set()
    assert set(counts) == {TRAIN, STOP, CHOOSE, TEST} | outside
    assert min(counts.values()) > 100


@each_split
def test_a_unit_is_never_in_two_parts(split: dict[str, Any]):
    found = defaultdict(set)
    for unit, part in parts_of(more_columns(), split):
        found[unit].add(part)
    assert {len(parts) for parts in found.values()} == {1}


@each_split
def test_new_rows_move_nobody(split: dict[str, Any]):
    rows, new = more_columns(), more_columns(2000, first_id=50_000)
    together = pa.concat_tables([new, rows])
    assert parts_of(together, split)[2000:] == parts_of(rows, split)


@pytest.mark.parametrize("split", [BY_ROWS, BY_GROUP], ids=["rows", "group"])
def test_the_order_of_rows_moves_nobody(split: dict[str, Any]):
    rows = more_columns()
    backwards = rows.take(list(range(len(rows) - 1, -1, -1)))
    assert parts_of(backwards, split)[::-1] == parts_of(rows, split)


def test_shares_are_those_that_were_asked_for():
    counts = Counter(part for _, part in parts_of(more_columns(20_000), BY_ROWS))
    # three standard deviations of 20,000 draws are at most 0.011
    shares = {part: counts[part] / 20_000 for part in counts}
    assert shares[TEST] == pytest.approx(0.25, abs=0.011)
    assert shares[STOP] == pytest.approx(0.15, abs=0.011)
    assert shares[CHOOSE] == pytest.approx(0.15, abs=0.011)


def test_who_tests_and_who_chooses_are_decided_apart():
    """One hash for both would choose all of the validation rows, or none."""
    changed = {**BY_ROWS, "choose": 0.2}
    before = [part == TEST for _, part in parts_of(more_columns(), BY_ROWS)]
    assert [part == TEST for _, part in parts_of(more_columns(), changed)] == before
    counts = Counter(part for _, part in parts_of(more_columns(20_000), changed))
    assert counts[CHOOSE] / (counts[CHOOSE] + counts[STOP]) == pytest.approx(0.2, abs=0.02)


def test_days_outside_of_every_period_have_no_part():
    short = {**BY_TIME, "test": {"start": "2024-02-20", "end": "2024-02-25"}}
    parts = parts_of(more_columns(), short)
    assert {part for day, part in parts if day >= "2024-02-25"} == {None}
    assert {part for day, part in parts if "2024-02-20" <= day < "2024-02-25"} == {TEST}


def test_a_period_has_its_first_day_and_not_its_end():
    days = dict(parts_of(more_columns(), BY_TIME))
    assert (days["2024-01-01"], days["2024-02-09"]) == (TRAIN, TRAIN)
    assert days["2024-02-10"] in (STOP, CHOOSE)
    assert (days["2024-02-20"], days["2024-02-29"]) == (TEST, TEST)


def test_a_row_without_a_time_has_no_part():
    rows = more_columns()
    at = [None, *rows["at"].to_pylist()[1:]]
    parts = parts_of(with_column(rows, "at", pa.array(at, pa.timestamp("us"))), BY_TIME)
    assert parts[0] == (None, None)
    assert parts[1][1] == TRAIN


def test_rows_without_a_group_are_one_group():
    rows = more_columns()
    parts = parts_of(rows, BY_GROUP)
    missing = [c is None for c in rows["customer"].to_pylist()]
    assert len({parts[i] for i in range(len(rows)) if missing[i]}) == 1
    assert None not in parts[0]  # a unit like any other, which a hash parts


def test_rows_without_a_key_are_named_by_all_that_they_hold():
    rows = pa.concat_tables([more_columns(), more_columns()])
    parts = parts_of(rows, BY_ROWS, key=[])
    assert parts[:3000] == parts[3000:]
    assert len(set(parts)) == 3000


def test_of_rows_without_a_key_a_missing_value_is_another_than_an_empty_one():
    rows = pa.table({"a": ["x", "x", ""], "b": ["", None, "x"], "late": [0, 0, 0]})
    units = [unit for unit, _ in parts_of(rows, BY_ROWS, key=[], time=None)]
    assert len(set(units)) == 3


def test_a_part_is_given_by_the_words_of_the_config():
    rows = more_columns()
    said = rows["part"].to_pylist()
    for told, (_, part) in zip(said, parts_of(rows, GIVEN), strict=True):
        wanted = {"learn": {TRAIN}, "tune": {STOP, CHOOSE}, "judge": {TEST}}
        assert part in wanted.get(told, {None})


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"train": 0, "validation": 1, "test": 2}, [0, 1, 2]),
        ({"train": "0", "validation": "1", "test": "2"}, ["0", "1", "2"]),
        ({"train": "it's", "validation": "1", "test": "2"}, ["it's", "1", "2"]),
        pytest.param({"train": 0, "validation": 1, "test": 2}, [0.0, 1.0, 2.0]),
    ],
)
def test_given_values_are_compared_whatever_their_type_is(
    values: dict[str, Any], column: list[Any]
):
    rows = with_column(more_columns(), "part", column * 1000)
    found = Counter(part for _, part in parts_of(rows, {**GIVEN, **values}))
    assert (found[TRAIN], found[TEST], found[STOP] + found[CHOOSE]) == (1000, 1000, 1000)
    assert min(found[STOP], found[CHOOSE]) > 300


@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.999])
@pytest.mark.parametrize("days", [2, 3, 10, 60])
def test_of_two_or_more_days_some_choose_and_some_stop(days: int, share: float):
    start = date(2024, 1, 1)
    period = Period(start=start, end=start + timedelta(days=days))
    chosen = splitting.choosing_days(period, share)
    assert 1 <= len(chosen) <= days - 1
    assert len(chosen) == min(days - 1, max(1, round(share * days)))
    assert all(period.start.isoformat() <= day < period.end.isoformat() for day in chosen)


def test_the_days_that_choose_never_change():
    period = Period(start=date(2024, 2, 10), end=date(2024, 2, 20))
    smallest = sorted(
        ((period.start + timedelta(days=i)).isoformat() for i in range(10)),
        key=lambda day: splitting.fraction(day, "choose"),
    )
    assert splitting.choosing_days(period, 0.4) == sorted(smallest[:4])
    assert [day[-2:] for day in splitting.choosing_days(period, 0.4)] == ["11", "12", "14", "16"]


def test_a_fraction_is_the_same_here_and_in_sql():
    names = ["", "2024-01-01", "it's", "ü", "a\x1fb", "x" * 1000]
    with duckdb.connect() as database:
        found = [
            database.execute(f"SELECT {splitting.fraction_sql('$of', 'part')}", {"of": name})
            .fetchall()[0][0]
            for name in names
        ]  # fmt: skip
    assert found == [splitting.fraction(name, "part") for name in names]
    assert all(0 <= each < 1 for each in found)
    assert splitting.fraction("a", "part") != splitting.fraction("a", "choose")
