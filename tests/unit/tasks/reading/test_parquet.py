"""Every type of Parquet is read as declared without loss, or refused by its column."""

import os
import time
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.errors import SlipwayError
from tests.unit.tasks.reading.sources import Folder

NEW_YEAR = datetime(2024, 1, 1)
SECONDS = 1704067200


def read(folder: Folder, column: pa.Array, kind: str, **dialect: Any) -> list[Any]:
    path = folder.root / "t.parquet"
    pq.write_table(pa.table({"x": column}), path)
    return [x for (x,) in folder.read(path, {"x": kind}, **dialect)]


@pytest.mark.parametrize(
    ("values", "stored", "kind", "expected"),
    [
        (["a", None], pa.dictionary(pa.int8(), pa.string()), "string", ["a", None]),
        (["a", None], pa.large_string(), "string", ["a", None]),
        ([b"\xc3\xa9"], pa.binary(), "string", ["é"]),
        (["7", ""], pa.string(), "int64", [7, None]),
        ([1, None], pa.uint8(), "int64", [1, None]),
        ([5], pa.uint64(), "int64", [5]),
        ([1.0, None], pa.float64(), "int64", [1, None]),
        ([True, None], pa.bool_(), "int64", [1, None]),
        ([2**62], pa.int64(), "float64", [2.0**62]),
        ([1.5], pa.float32(), "float64", [1.5]),
        ([1.5], pa.float16(), "float64", [1.5]),
        ([Decimal("1.25")], pa.decimal128(10, 2), "float64", [1.25]),
        ([Decimal("1.25")], pa.decimal128(10, 2), "decimal(6, 3)", [Decimal("1.250")]),
        ([Decimal("7.00")], pa.decimal128(10, 2), "int64", [7]),
        ([1, 0, None], pa.int32(), "bool", [True, False, None]),
        ([date(2024, 1, 1)], pa.date32(), "date", [date(2024, 1, 1)]),
        ([date(2024, 1, 1)], pa.date64(), "datetime", [NEW_YEAR]),
        ([NEW_YEAR], pa.timestamp("ms"), "date", [date(2024, 1, 1)]),
        ([NEW_YEAR], pa.timestamp("s"), "datetime", [NEW_YEAR]),
        (
            [SECONDS * 10**9 + 1999],
            pa.timestamp("ns"),
            "datetime",
            [NEW_YEAR.replace(microsecond=1)],
        ),
        ([SECONDS * 10**6], pa.timestamp("us", tz="America/New_York"), "timestamp", [NEW_YEAR]),
        ([SECONDS * 10**9], pa.timestamp("ns", tz="+02:00"), "timestamp", [NEW_YEAR]),
        ([None, None], pa.null(), "float64", [None, None]),
        ([1.5], pa.float64(), "string", ["1.5"]),
    ],
)
def test_a_type_is_read_as_another_where_nothing_is_lost(
    folder: Folder, values: list[Any], stored: pa.DataType, kind: str, expected: list[Any]
):
    assert read(folder, pa.array(values, stored), kind) == expected


def test_a_time_becomes_a_text_in_utc_on_every_machine(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(os.environ, "TZ", "America/New_York")
    time.tzset()
    try:
        column = pa.array([SECONDS * 10**6], pa.timestamp("us", tz="Asia/Tokyo"))
        assert read(folder, column, "string") == ["2024-01-01 00:00:00+00"]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("written", ["epoch_s", "epoch_ms", "epoch_us", "epoch_ns"])
def test_numbers_are_times_where_the_config_says_what_they_count(folder: Folder, written: str):
    units = {"epoch_s": 1, "epoch_ms": 10**3, "epoch_us": 10**6, "epoch_ns": 10**9}[written]
    column = pa.array([SECONDS * units, None])
    assert read(folder, column, "timestamp", date_format=written) == [NEW_YEAR, None]


@pytest.mark.parametrize(
    ("values", "stored", "kind", "said"),
    [
        ([1, 2**63], pa.uint64(), "int64", "row 2, column 'x': '9223372036854775808' is no int64"),
        ([2**53 + 1], pa.int64(), "float64", "row 1, column 'x': .* without being rounded"),
        ([0.0, 1.5], pa.float64(), "int64", "row 2, column 'x': '1.5' is no int64"),
        ([2], pa.int32(), "bool", "row 1, column 'x': '2' is no bool"),
        ([Decimal("1.25")], pa.decimal128(10, 2), "decimal(6, 1)", "holds fewer digits"),
        ([Decimal("1.25")], pa.decimal256(50, 2), "string", "more than 38 digits"),
        ([NEW_YEAR], pa.timestamp("us"), "timestamp", "carries no time zone: declare datetime"),
        ([SECONDS], pa.timestamp("us", tz="UTC"), "datetime", "a time zone: declare timestamp"),
        ([SECONDS], pa.int64(), "datetime", "write what it counts as `date_format`: epoch_s"),
        ([date(2024, 1, 1)], pa.date32(), "timestamp", "declare date or datetime"),
        ([datetime(2024, 1, 1, 1)], pa.timestamp("us"), "date", "row 1, column 'x': .* no date"),
        ([[1]], pa.list_(pa.int64()), "int64", r"'x' is nested \(list<"),
        ([{"a": 1}], pa.struct({"a": pa.int64()}), "string", r"'x' is nested \(struct<"),
        ([[("a", 1)]], pa.map_(pa.string(), pa.int64()), "string", r"'x' is nested \(map<"),
        (["2024-01-01T00:00:00Z"], pa.string(), "datetime", "row 1, column 'x': .* an offset"),
    ],
)
def test_a_type_that_would_lose_something_is_refused_by_its_column(
    folder: Folder, values: list[Any], stored: pa.DataType, kind: str, said: str
):
    with pytest.raises(SlipwayError, match=said):
        read(folder, pa.array(values, stored), kind)


def test_columns_have_any_names_and_folders_name_more(folder: Folder):
    for year in (2023, 2024):
        path = folder.write(f"sales/year={year}/part.parquet", b"")
        pq.write_table(pa.table({"order amount": [year / 2], "2nd.x": ["a"]}), path)
    columns = {"year": "int64", "2nd.x": "string", "order amount": "float64"}
    rows = folder.read(folder.root / "sales", columns)
    assert rows == [(2023, "a", 1011.5), (2024, "a", 1012.0)]


@pytest.mark.parametrize(
    ("names", "said"),
    [(["x", "X"], "cannot be told apart: 'x', 'X'"), (["xx", "y"], "no column 'x'; did you mean")],
)
def test_columns_that_cannot_be_told_apart_or_are_not_there_are_refused(
    folder: Folder, names: list[str], said: str
):
    path = folder.root / "t.parquet"
    pq.write_table(pa.table([[1], [2]], names=names), path)
    with pytest.raises(SlipwayError, match=said):
        folder.read(path, {"x": "int64"})


@pytest.mark.parametrize("content", [b"PAR1 and no more", b"<html>"])
def test_a_damaged_file_is_refused(folder: Folder, content: bytes):
    with pytest.raises(SlipwayError, match="truncated or damaged"):
        folder.rows_of("t.parquet", content, {"x": "int64"})
