"""Say in SQL what a value of a type of DuckDB, as Parquet gives it, is as a declared type."""

import re

from slipway.source import EPOCHS, decimal_of
from tasks.reading.casts import EXACT_MAX, as_kind, from_epoch, from_text, not_exact
from tasks.reading.dialect import Dialect
from tasks.reading.sql import texts

EXACT = frozenset(("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"))
"""Integers that are all a float64."""
INTEGERS = EXACT | {"BIGINT", "HUGEINT", "UBIGINT", "UHUGEINT"}
FLOATS = frozenset(("FLOAT", "DOUBLE"))
NESTED = ("STRUCT", "MAP", "UNION", "VARIANT")


def is_nested(stored: str) -> bool:
    """Say whether a type holds others."""
    return stored.endswith("]") or stored.startswith(NESTED)


def is_text(stored: str) -> bool:
    """Say whether values are texts, some of which the config calls no value."""
    return stored in ("VARCHAR", "BLOB") or stored.startswith("ENUM")


def raw_text(x: str, stored: str, kind: str, dialect: Dialect) -> str:
    """Write a value as text; NULL where it is none."""
    raw = f"decode({x})" if stored == "BLOB" else f"CAST({x} AS VARCHAR)"
    nulls = dialect.nulls if kind == "string" else ("", *dialect.nulls)
    if not is_text(stored) or not nulls:
        return raw
    return f"CASE WHEN {raw} NOT IN ({texts(nulls)}) THEN {raw} END"


def from_typed(
    x: str, stored: str, kind: str, *, dialect: Dialect, written: str | None
) -> tuple[str, bool] | None:
    """Read a value, given as SQL, and say whether that never fails; None where no value could."""
    if is_text(stored):
        raw = raw_text(x, stored, kind, dialect)
        return from_text(raw, kind, dialect, written), kind == "string"
    if kind == "string":
        return f"CAST({x} AS VARCHAR)", True
    if kind in ("date", "datetime", "timestamp"):
        return _time(x, stored, kind, written)
    if kind == "bool":
        return _bool(x, stored)
    if stored == "BOOLEAN":
        return f"CAST({x} AS {'BIGINT' if kind == 'int64' else 'DOUBLE'})", True
    if stored in INTEGERS | FLOATS or stored.startswith("DECIMAL"):
        return _number(x, stored, kind)
    return None


def _bool(x: str, stored: str) -> tuple[str, bool] | None:
    if stored == "BOOLEAN":
        return x, True
    if stored in INTEGERS | FLOATS:
        return f"CASE {x} WHEN 1 THEN true WHEN 0 THEN false END", False
    return None


def _number(x: str, stored: str, kind: str) -> tuple[str, bool]:
    if kind == "float64":
        if stored not in INTEGERS or stored in EXACT:
            return f"CAST({x} AS DOUBLE)", True
        rounded = not_exact(f"CAST({x} AS DOUBLE)", x)
        near = f"{x} BETWEEN -{EXACT_MAX} AND {EXACT_MAX}"
        return f"CASE WHEN {near} OR NOT ({rounded}) THEN CAST({x} AS DOUBLE) END", False
    if kind == "int64":
        if stored in INTEGERS:
            return f"TRY_CAST({x} AS BIGINT)", stored in EXACT | {"BIGINT"}
        return f"CASE WHEN floor({x}) = {x} THEN TRY_CAST({x} AS BIGINT) END", False
    digits = decimal_of(kind)
    assert digits, f"a declared type: {kind}"
    cast = f"TRY_CAST({x} AS DECIMAL({digits[0]}, {digits[1]}))"
    back = "DOUBLE" if stored in FLOATS else stored
    return f"CASE WHEN CAST({cast} AS {back}) = {x} THEN {cast} END", False


def _time(x: str, stored: str, kind: str, written: str | None) -> tuple[str, bool] | None:
    if stored in INTEGERS | FLOATS or stored.startswith("DECIMAL"):
        if written not in EPOCHS:
            return None
        return as_kind(from_epoch(x, written), kind), False
    if stored == "DATE":
        return None if kind == "timestamp" else (f"CAST({x} AS TIMESTAMP)", True)
    if not stored.startswith("TIMESTAMP"):
        return None
    zoned = stored.endswith("WITH TIME ZONE") or stored.startswith("TIMESTAMPTZ")
    if zoned != (kind == "timestamp"):
        return None
    # a cast from nanoseconds rounds up
    nano = re.search(r"_NS|\(9\)", stored)
    time = f"make_timestamp((epoch_ns({x}) - (epoch_ns({x}) % 1000 + 1000) % 1000) // 1000)"
    if not nano:
        time = f"{x} AT TIME ZONE 'UTC'" if zoned else f"CAST({x} AS TIMESTAMP)"
    return as_kind(time, kind), kind != "date"
