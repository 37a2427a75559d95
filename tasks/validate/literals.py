"""Values of a suite as SQL, in the type of the column that they are compared with.

JSON has no dates and one kind of number. A bound is never allowed to change the column's type:
an integer compared as a float loses its last digits, and a float32 of 0.1 is less than 0.1.
"""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

import numpy as np

from tasks.validate.columns import Column

COMPARED = ("integer", "decimal", "float", "text", "boolean", "date", "time", "timestamp")
"""Kinds whose values a suite can name."""

BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}

_MIRRORED = {">": ROUND_FLOOR, ">=": ROUND_CEILING, "<": ROUND_CEILING, "<=": ROUND_FLOOR}
"""How a bound that the type cannot hold is rounded so that no answer changes."""


class Refusal(ValueError):
    """A rule that cannot be answered for this table, and why."""


def compare(column: Column, operator: str, value: Any) -> str:
    """Write the comparison of a column with a value of the suite: `>`, `>=`, `<` or `<=`."""
    if column.kind not in ("integer", "decimal"):
        return f"{column.sql} {operator} {literal(column, value)}"
    exact = _exact(column, value)
    low, high, step = _range(column)
    if not low <= exact <= high:
        return "TRUE" if (exact > high) == (operator in ("<", "<=")) else "FALSE"
    fitting = exact.quantize(step, rounding=_MIRRORED[operator])
    return f"{column.sql} {operator} {_number(column, fitting)}"


def is_one_of(column: Column, values: Sequence[Any]) -> str:
    """Write the question whether a column holds one of some values; missing ones count for none."""
    wanted = [literal(column, value) for value in values if value is not None]
    possible = [text for text in wanted if text != "NULL"]
    return f"{column.sql} IN ({', '.join(possible)})" if possible else "FALSE"


def literal(column: Column, value: Any) -> str:
    """Write one value in the type of a column; NULL where the type has no such number."""
    match column.kind:
        case "integer" | "decimal":
            exact = _exact(column, value)
            low, high, step = _range(column)
            if not low <= exact <= high or exact != exact.quantize(step):
                return "NULL"
            return _number(column, exact.quantize(step))
        case "float":
            return _float(column, value)
        case "text":
            return quoted_text(_text(column, value))
        case "boolean":
            if value not in (True, False) or isinstance(value, str):
                raise _refusal(column, value)
            return "TRUE" if value else "FALSE"
        case "date" | "time" | "timestamp":
            return _moment(column, value)
    raise Refusal(f"column {column.name!r} is {column.type}, whose values a suite cannot name")


def quoted_text(text: str) -> str:
    """Write a text for SQL, whatever stands in it."""
    return "'" + text.replace("'", "''") + "'"


def _exact(column: Column, value: Any) -> Decimal:
    if isinstance(value, str | date | time):
        raise _refusal(column, value)
    try:
        return Decimal(str(int(value) if isinstance(value, bool) else value))
    except InvalidOperation:
        raise _refusal(column, value) from None


def _range(column: Column) -> tuple[Decimal, Decimal, Decimal]:
    """Return the least and the largest value of an exact type, and its step."""
    if column.kind == "decimal":
        width, scale = map(int, column.sql_type[len("DECIMAL(") : -1].split(","))
        step = Decimal(1).scaleb(-scale)
        return -(10**width - 1) * step, (10**width - 1) * step, step
    unsigned = column.sql_type.startswith("U")
    bits = BITS[column.sql_type.removeprefix("U")]
    if unsigned:
        return Decimal(0), Decimal(2**bits - 1), Decimal(1)
    return Decimal(-(2 ** (bits - 1))), Decimal(2 ** (bits - 1) - 1), Decimal(1)


def _number(column: Column, value: Decimal) -> str:
    return f"CAST('{value:f}' AS {column.sql_type})"


def _float(column: Column, value: Any) -> str:
    if isinstance(value, str | date | time):
        raise _refusal(column, value)
    with np.errstate(over="ignore"):
        number = np.float32(value) if column.sql_type == "FLOAT" else np.float64(value)
    word = "inf" if math.isinf(number) else str(abs(number))
    return f"CAST('{'-' if number < 0 else ''}{word}' AS {column.sql_type})"


def _text(column: Column, value: Any) -> str:
    if not isinstance(value, str):
        raise _refusal(column, value)
    return value


def _moment(column: Column, value: Any) -> str:
    """Write a day or a time; with an offset it means the moment, which the table keeps in UTC."""
    try:
        if column.kind == "time":
            clock = value if isinstance(value, time) else time.fromisoformat(value)
            return f"CAST('{clock.isoformat()}' AS {column.sql_type})"
        moment = parse_moment(value)
    except (ValueError, TypeError):
        raise _refusal(column, value) from None
    if column.kind == "date" and moment.time() == time():
        return f"DATE '{moment.date().isoformat()}'"
    zone = "+00" if column.sql_type == "TIMESTAMP WITH TIME ZONE" else ""
    type_ = "TIMESTAMP" if column.kind == "date" else column.sql_type
    return f"CAST('{moment.isoformat(' ')}{zone}' AS {type_})"


def parse_moment(value: Any) -> datetime:
    """Read a day or a moment in ISO format as plain UTC."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _refusal(column: Column, value: Any) -> Refusal:
    shown = f"the text {value!r}" if isinstance(value, str) else f"{value!r}"
    wanted = {
        "date": " (write 2024-12-31)",
        "time": " (write 08:30:00)",
        "timestamp": " (write 2024-12-31 or 2024-12-31T08:30:00)",
    }.get(column.kind, "")
    return Refusal(f"column {column.name!r} is {column.type}, {shown} is none{wanted}")
