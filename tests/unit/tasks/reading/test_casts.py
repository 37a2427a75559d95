"""A value is what its column is declared to be, or it stops the reading with what to write."""

import os
import time
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from slipway.errors import SlipwayError
from tests.unit.tasks.reading.sources import Folder


def one(folder: Folder, value: str, kind: str, **dialect: Any) -> Any:
    [(read, _)] = folder.rows_of(
        "t.csv", f'x;y\n"{value}";\n', {"x": kind, "y": "string"}, delimiter=";", **dialect
    )
    return read


NEW_YEAR = datetime(2024, 1, 1)


@pytest.mark.parametrize(
    ("value", "kind", "dialect", "expected"),
    [
        (" 7 ", "int64", {}, 7),
        ("9223372036854775807", "int64", {}, 2**63 - 1),
        ("1,234", "int64", {"thousands": ","}, 1234),
        ("1e3", "float64", {}, 1000.0),
        ("-inf", "float64", {}, float("-inf")),
        ("9007199254740992", "float64", {}, 2.0**53),
        ("1,5", "float64", {"decimal": ","}, 1.5),
        ("-1.234.567,5", "float64", {"decimal": ",", "thousands": "."}, -1234567.5),
        ("1'234.5", "float64", {"thousands": "'"}, 1234.5),
        ("1.50", "decimal(4, 2)", {}, Decimal("1.50")),
        ("TRUE", "bool", {}, True),
        ("0", "bool", {}, False),
        ("2024-01-01", "datetime", {}, NEW_YEAR),
        ("2024-01-01T00:00:00.5", "datetime", {}, datetime(2024, 1, 1, 0, 0, 0, 500_000)),
        ("2024-01-01 00:00:00", "date", {}, date(2024, 1, 1)),
        ("2024-01-01T02:00:00+02:00", "timestamp", {}, NEW_YEAR),
        ("2023-12-31 19:00-0500", "timestamp", {}, NEW_YEAR),
        ("2024-01-01T00:00:00Z", "timestamp", {}, NEW_YEAR),
        (
            "31.01.2024 10:00",
            "datetime",
            {"date_format": "%d.%m.%Y %H:%M"},
            datetime(2024, 1, 31, 10),
        ),
        ("01/31/24", "date", {"date_format": {"x": "%m/%d/%y"}}, date(2024, 1, 31)),
        (
            "1/2/2024 03:04 PM",
            "datetime",
            {"date_format": "%m/%d/%Y %I:%M %p"},
            datetime(2024, 1, 2, 15, 4),
        ),
        ("01.01.2024 02:00 +0200", "timestamp", {"date_format": "%d.%m.%Y %H:%M %z"}, NEW_YEAR),
        ("20240101T000000Z", "timestamp", {"date_format": "%Y%m%dT%H%M%S%z"}, NEW_YEAR),
        ("1704067200", "timestamp", {"date_format": "epoch_s"}, NEW_YEAR),
        (
            "1704067200.25",
            "datetime",
            {"date_format": "epoch_s"},
            datetime(2024, 1, 1, 0, 0, 0, 250_000),
        ),
        ("1704067200000", "datetime", {"date_format": "epoch_ms"}, NEW_YEAR),
        (
            "1704067200000001",
            "datetime",
            {"date_format": "epoch_us"},
            datetime(2024, 1, 1, 0, 0, 0, 1),
        ),
        (
            "1704067200000001999",
            "datetime",
            {"date_format": "epoch_ns"},
            datetime(2024, 1, 1, 0, 0, 0, 1),
        ),
        (
            "-1",
            "datetime",
            {"date_format": "epoch_ns"},
            datetime(1969, 12, 31, 23, 59, 59, 999_999),
        ),
    ],
)
def test_a_text_is_read_as_its_column_is_declared(
    folder: Folder, value: str, kind: str, dialect: dict[str, Any], expected: Any
):
    assert one(folder, value, kind, **dialect) == expected


@pytest.mark.parametrize(
    ("value", "kind", "dialect", "said"),
    [
        ("1.0", "int64", {}, "declare float64, and CAST it"),
        ("15e-1", "int64", {}, "declare string"),
        ("0x1F", "int64", {}, "declare string"),
        ("99999999999999999999", "int64", {}, "of 64 bits; declare string, or decimal"),
        ("9007199254740993", "float64", {}, "without being rounded; declare string, or decimal"),
        ("1e400", "float64", {}, "declare string"),
        ("NaN", "float64", {}, 'write `null_values: \\["NaN"\\]`'),
        ("1,234.50", "float64", {}, 'write `thousands: ","`'),
        ("1,5", "float64", {}, 'write `decimal: ","`'),
        ("1,500", "float64", {}, '`thousands: ","` if it is a thousand, `decimal: ","` if it is a'),
        ("1.234,5", "float64", {}, 'write `thousands: "."` and `decimal: ","`'),
        ("1.234", "float64", {"decimal": ","}, 'write `thousands: "."`'),
        ("1,23,456", "float64", {"thousands": ","}, "declare string"),
        ("5 %", "float64", {}, "declare string, and take the number out of it"),
        ("1.239", "decimal(4, 2)", {}, "holds fewer digits"),
        ("yes", "bool", {}, "true, false, 1 or 0; declare string"),
        ("2024-01-01T00:00:00Z", "datetime", {}, "carries an offset, .*: declare timestamp"),
        ("2024-01-01 00:00:00-02", "datetime", {}, "carries an offset, .*: declare timestamp"),
        ("2024-01-01 00:00:00", "timestamp", {}, "carries no offset, .*: declare datetime"),
        ("2024-01-01", "timestamp", {}, "carries no offset, .*: declare datetime"),
        (
            "02/01/2024 10:00",
            "datetime",
            {},
            'two readings: .*"%d/%m/%Y .* for 2024-01-02, or .*"%m/%d/%Y .* for 2024-02-01',
        ),
        ("13/01/2024", "date", {}, '"%d/%m/%Y"` for 2024-01-13$'),
        ("2024/01/02", "date", {}, '"%Y/%m/%d"'),
        ("2024-13-01", "date", {}, "no such day"),
        ("2024-01-01 10:00", "date", {}, "it has an hour: declare datetime"),
        ("1704067200", "datetime", {}, "write `date_format: epoch_s`"),
        ("1704067200000", "datetime", {"date_format": "epoch_s"}, "perhaps epoch_ms"),
        ("infinity", "datetime", {}, "date_format"),
        ("0044-03-15 (BC) 00:00:00", "datetime", {}, "date_format"),
        ("20240-01-01 00:00:00", "datetime", {}, "date_format"),
        ("31/12/2024", "datetime", {"date_format": "%m/%d/%Y"}, "as date_format '%m/%d/%Y' has it"),
    ],
)
def test_a_text_that_is_something_else_is_refused_with_what_to_write(
    folder: Folder, value: str, kind: str, dialect: dict[str, Any], said: str
):
    with pytest.raises(SlipwayError, match=f"line 2: row 1, column 'x': .* is no .*{said}"):
        one(folder, value, kind, **dialect)


def test_the_first_value_that_is_none_is_named_by_row_and_line(folder: Folder):
    rows = [*("1" for _ in range(3000)), "two", *("3" for _ in range(3000)), "four"]
    text = "\n".join(["title", "x", *rows])
    with pytest.raises(SlipwayError, match="line 3003: row 3001, column 'x': 'two' is no int64"):
        folder.rows_of("t.csv", text, {"x": "int64"}, skip_rows=1)


def test_no_time_depends_on_the_zone_of_the_machine(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(os.environ, "TZ", "America/New_York")
    time.tzset()
    try:
        assert one(folder, "2024-01-01T02:00:00+02:00", "timestamp") == NEW_YEAR
        assert one(folder, "1704067200", "timestamp", date_format="epoch_s") == NEW_YEAR
        zoned = {"date_format": "%Y-%m-%d %H:%M %z"}
        assert one(folder, "2024-01-01 02:00 +0200", "timestamp", **zoned) == NEW_YEAR
    finally:
        monkeypatch.undo()
        time.tzset()
