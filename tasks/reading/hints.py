"""Say what to write in the config where a value or a header is not as declared."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from tasks.reading.dialect import Dialect

PARTED = re.compile(
    r"[+-]?\d{1,3}(?P<by>[,.'’_ \u00a0\u202f])\d{3}((?P=by)\d{3})*(?P<rest>[.,]\d+)?"
)
COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
BY_NUMBERS = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4}|\d{2})\b(.*)")
YEAR_FIRST = re.compile(r"(\d{4})([-./])\d{1,2}\2\d{1,2}\b(.*)")
EPOCH_DIGITS = {10: "epoch_s", 13: "epoch_ms", 16: "epoch_us", 19: "epoch_ns"}
CLOCKS = {
    r"": "",
    r"[ T]\d{1,2}:\d\d": " %H:%M",
    r"[ T]\d{1,2}:\d\d:\d\d": " %H:%M:%S",
    r"[ T]\d{1,2}:\d\d:\d\d\.\d+": " %H:%M:%S.%f",
    r" \d{1,2}:\d\d ?[AaPp][Mm]": " %I:%M %p",
    r" \d{1,2}:\d\d:\d\d ?[AaPp][Mm]": " %I:%M:%S %p",
}
ZONED = re.compile(r".*\d:\d\d.*( ?UTC| ?GMT|[Zz]|[+-]\d\d(:?\d\d)?)\s*")
NOTHING = {"na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "?", ".", "\\n", "missing"}


def of_value(value: str, kind: str, written: str | None, dialect: Dialect) -> str:
    """Say what to write where a value is not of the declared type; "" where nothing is known."""
    if value.strip().lower() in NOTHING or not value.strip():
        return f"; if that is no value, write `null_values: [{_yaml(value)}]`"
    if value.startswith(("{", "[")):
        return "; it is an object or a list: take what is needed of it out into columns"
    if kind in ("date", "datetime", "timestamp"):
        return _of_time(value.strip(), kind, written)
    if not re.search(r"\d", value) and kind != "bool":
        return "; declare string, or take the line out of the file if it is a title or a total"
    if kind == "bool":
        return "; a bool is true, false, 1 or 0; declare string, and compare it in the query"
    return _of_number(value.strip(), kind, dialect)


def _of_number(value: str, kind: str, dialect: Dialect) -> str:
    if re.fullmatch(r"[+-]?\d+", value):
        wide = "; declare string, or decimal(p, 0)"
        return (" without being rounded" if kind == "float64" else " of 64 bits") + wide
    if kind == "int64" and re.fullmatch(r"[+-]?\d*\.\d*([eE][+-]?\d+)?", value):
        return "; declare float64, and CAST it in the query"
    if kind.startswith("decimal") and re.fullmatch(r"[+-]?\d*\.\d*", value):
        return ", which holds fewer digits"
    found = PARTED.fullmatch(value)
    if found and not dialect.thousands:
        thousands = f"`thousands: {_yaml(found['by'])}`"
        rest = found["rest"] or ""
        other = rest.startswith(",") or found["by"] == "." == dialect.decimal
        comma = ' and `decimal: ","`' if other else ""
        if found["by"] == "," != dialect.decimal and not rest and value.count(",") == 1:
            return f'; write {thousands} if it is a thousand, `decimal: ","` if it is a fraction'
        return f"; write {thousands}{comma}"
    if COMMA.fullmatch(value) and dialect.decimal != ",":
        return '; write `decimal: ","`'
    return "; declare string, and take the number out of it in the query"


def _of_time(value: str, kind: str, written: str | None) -> str:
    if written is not None:
        return f", as date_format {written!r} has it{_of_epoch(value, written)}"
    zoned = ZONED.fullmatch(value)
    if kind == "datetime" and zoned:
        return "; it carries an offset, which a datetime does not: declare timestamp"
    if (
        kind == "timestamp"
        and re.fullmatch(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d.*)?", value)
        and not zoned
    ):
        return "; it carries no offset, which a timestamp does: declare datetime"
    if re.fullmatch(r"\d+", value) and len(value) in EPOCH_DIGITS:
        return f"; if it counts from 1970, write `date_format: {EPOCH_DIGITS[len(value)]}`"
    if kind == "date" and re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*", value):
        return "; it has an hour: declare datetime, or timestamp where it carries an offset"
    if re.fullmatch(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?", value):
        return "; there is no such day or hour"
    return _of_order(value) or '; write how it is written as `date_format`, such as "%Y%m%d"'


def _of_epoch(value: str, written: str) -> str:
    digits = re.sub(r"\..*", "", value)
    likely = EPOCH_DIGITS.get(len(digits)) if digits.isdigit() else None
    return f"; perhaps {likely}" if likely and written.startswith("epoch") else ""


def _of_order(value: str) -> str | None:
    """Name the formats that a date may have, and what it is by each; they may be two."""
    if found := YEAR_FIRST.fullmatch(value):
        by = found[2]
        return f'; write `date_format: "%Y{by}%m{by}%d{_of_clock(found[3])}"`'
    found = BY_NUMBERS.fullmatch(value)
    if not found:
        return None
    between, year = value[len(found[1])], "%Y" if len(found[3]) == 4 else "%y"
    readings = []
    for order in (["%d", "%m", year], ["%m", "%d", year]):
        day = between.join(order)
        try:
            read = datetime.strptime(value[: len(value) - len(found[4])], day)
        except ValueError:
            continue
        readings.append((f"{day}{_of_clock(found[4])}", read.date()))
    said = ", or ".join(f'`date_format: "{written}"` for {day}' for written, day in readings)
    both = "it has two readings: " if len(readings) == 2 else ""
    return f"; {both}write {said}" if readings else None


def _of_clock(value: str) -> str:
    found = next((f for p, f in CLOCKS.items() if re.fullmatch(p, value)), "...")
    return found.replace(" ", "T", 1) if value.startswith("T") else found


def of_header(
    names: Sequence[str],
    lines: Sequence[tuple[int, str]],
    wanted: Mapping[str, str],
    dialect: Dialect,
) -> str:
    """Say what would make the first lines of a file hold the columns that are wanted."""
    for delimiter in (dialect.delimiter, ";", ",", "\t", "|"):
        for number, line in lines:
            row = next(csv.reader([line], delimiter=delimiter), [])
            if {*wanted} <= {*row} and [*row] != [*names]:
                said = "" if delimiter == dialect.delimiter else f"delimiter: {_yaml(delimiter)}"
                skipped = f"skip_rows: {number - 1}" if number - 1 != dialect.skip_rows else ""
                write = "` and `".join(filter(None, [said, skipped]))
                return f"; line {number} has them: write `{write}`"
    return ""


def _yaml(value: str) -> str:
    """Write a text as YAML takes it, a tab as well."""
    return json.dumps(value, ensure_ascii=False)
