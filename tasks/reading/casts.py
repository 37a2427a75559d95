"""Say in SQL what a text is as a declared type; NULL where it is none.

Stricter than DuckDB's own casts, which read 1.5 as the integer 2, 0x1F as 31, `y` as true, and
10:00+02 as 10:00. A text that is NULL stays so.
"""

import re

from slipway.source import EPOCHS, decimal_of
from tasks.reading.dialect import Dialect
from tasks.reading.sql import text

EXACT_MAX = 2**53 - 1
"""Up to here an integer is a float64 of its own: 2**53 is also that of 2**53 + 1."""

DAY = r"\d{4}-\d\d-\d\d"
CLOCK = r"\d\d:\d\d(:\d\d(\.\d+)?)?"
OFFSET = r"( ?UTC| ?GMT|Z|[+-]\d\d(:?\d\d)?)"

PER_SECOND = {"epoch_s": 1, "epoch_ms": 10**3, "epoch_us": 10**6, "epoch_ns": 10**9}


def from_text(x: str, kind: str, dialect: Dialect, written: str | None = None) -> str:
    """Read a text, given as SQL; `written` says how times are, ISO 8601 if nothing."""
    match kind:
        case "string":
            return x
        case "int64":
            return _integer(_plain_number(x, dialect))
        case "float64":
            return _float(_plain_number(x, dialect))
        case "bool":
            lower = f"lower(trim({x}))"
            true, false = f"{lower} IN ('true', '1')", f"{lower} IN ('false', '0')"
            return f"CASE WHEN {true} THEN true WHEN {false} THEN false END"
    if kind in ("date", "datetime", "timestamp"):
        return _time(x, kind, written)
    return _decimal(_plain_number(x, dialect), kind)


def _plain_number(x: str, dialect: Dialect) -> str:
    """Write a number with `.` and nothing else; NULL where it is not written as declared."""
    point, parted = re.escape(dialect.decimal), re.escape(dialect.thousands)
    plain = x
    if dialect.thousands:
        grouped = rf"\s*[+-]?(\d+|\d{{1,3}}({parted}\d{{3}})+)({point}\d*)?\s*"
        plain = (
            f"CASE WHEN regexp_full_match({x}, {text(grouped)})"
            f" THEN replace({x}, {text(dialect.thousands)}, '') END"
        )
    if dialect.decimal != ".":
        dotless = f"CASE WHEN NOT contains({x}, '.') THEN {x} END" if plain == x else plain
        plain = f"replace({dotless}, {text(dialect.decimal)}, '.')"
    return plain


def _integer(x: str) -> str:
    number = rf"regexp_full_match({x}, '\s*[+-]?\d+\s*')"
    return _written_back(x, f"TRY_CAST({x} AS BIGINT)", number)


def _written_back(x: str, value: str, pattern: str, length: int | None = None) -> str:
    """Take what DuckDB read where it writes it as it stands there, or where the pattern says so.

    To write a number again costs less than a pattern does (benchmarks/reading.py: 1.3 times
    DuckDB's own reading instead of 1.45). A length keeps `infinity` and years before Christ out.
    """
    same = f"CAST({value} AS VARCHAR) = {x}"
    same = f"strlen({x}) = {length} AND {same}" if length else same
    return f"CASE WHEN ({same}) OR {pattern} THEN {value} END"


def _float(x: str) -> str:
    """Read a float64; no NaN, no infinity by overflow, no integer that would be rounded."""
    value = f"TRY_CAST({x} AS DOUBLE)"
    rounded = f"regexp_full_match({x}, '\\s*[+-]?\\d+\\s*') AND {not_exact(value, x)}"
    return (
        f"CASE WHEN abs({value}) < {EXACT_MAX + 1} THEN {value}"
        f" WHEN isinf({value}) AND contains(lower({x}), 'inf') THEN {value}"
        f" WHEN isfinite({value}) AND NOT ({rounded}) THEN {value} END"
    )


def not_exact(value: str, x: str) -> str:
    """Say whether an integer, written as a text, is another one as float64."""
    return f"TRY_CAST({value} AS HUGEINT) IS DISTINCT FROM TRY_CAST({x} AS HUGEINT)"


def _decimal(x: str, kind: str) -> str:
    digits = decimal_of(kind)
    assert digits, f"a declared type: {kind}"
    number = rf"\s*[+-]?\d*(\.\d{{0,{digits[1]}}}0*)?\s*"
    cast = f"TRY_CAST({x} AS DECIMAL({digits[0]}, {digits[1]}))"
    return f"CASE WHEN regexp_full_match({x}, {text(number)}) THEN {cast} END"


def _time(x: str, kind: str, written: str | None) -> str:
    if written in EPOCHS:
        number = rf"CASE WHEN regexp_full_match({x}, '\s*[+-]?\d+(\.\d+)?\s*') THEN {x} END"
        return as_kind(from_epoch(number, written), kind)
    if written is not None:
        return as_kind(_strptime(x, written), kind)
    match kind:
        case "timestamp":
            iso = rf"\s*{DAY}[T ]{CLOCK}{OFFSET}\s*"
            cast = f"TRY_CAST(trim({x}) AS TIMESTAMPTZ) AT TIME ZONE 'UTC'"
        case "datetime":
            iso, cast = rf"\s*{DAY}([T ]{CLOCK})?\s*", f"TRY_CAST(trim({x}) AS TIMESTAMP)"
            return _written_back(x, cast, f"regexp_full_match({x}, {text(iso)})", length=19)
        case _:
            iso, cast = rf"\s*{DAY}([T ]00:00(:00(\.0+)?)?)?\s*", f"TRY_CAST(trim({x}) AS DATE)"
    return f"CASE WHEN regexp_full_match({x}, {text(iso)}) THEN {cast} END"


def from_epoch(number: str, written: str) -> str:
    """Turn a number of units since 1970 into a time; NULL outside of the years 1 to 9999."""
    units = PER_SECOND[written]
    exact = f"TRY_CAST({number} AS DECIMAL(38, 9))"
    micros = f"floor({exact} * {10**6 // units})"
    if units > 10**6:  # the division of decimals is one of floats
        whole, by = f"CAST(floor({exact}) AS HUGEINT)", units // 10**6
        micros = f"({whole} - ({whole} % {by} + {by}) % {by}) // {by}"
    bounded = (
        f"CASE WHEN {exact} BETWEEN {-62135596800 * units} AND {253402300799 * units}"
        f" THEN CAST({micros} AS BIGINT) END"
    )
    return f"make_timestamp({bounded})"


def _strptime(x: str, written: str) -> str:
    if not {"z", "Z"} & set(re.findall(r"%-?(.)", written)):
        return f"try_strptime(trim({x}), {text(written)})"
    # DuckDB's %z does not know the Z of ISO 8601
    offset = f"regexp_replace(trim({x}), '[Zz]$', '+00:00')"
    return f"try_strptime({offset}, {text(written)}) AT TIME ZONE 'UTC'"


def as_kind(time: str, kind: str) -> str:
    """Make a date of a time, where a date is declared; NULL where it would lose the hour."""
    if kind != "date":
        return time
    return f"CASE WHEN date_trunc('day', {time}) = {time} THEN CAST({time} AS DATE) END"
