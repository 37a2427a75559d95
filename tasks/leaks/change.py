"""The ways in which what is known only later is changed.

Each leaves something as it is that another changes. Whole rows of later values are real ones, so
whatever the query can compute it still can, and what is missing stays missing where most is. Each
column by itself breaks what goes together; in half of the rows only, so that rows remain whatever
the query demands of them, and in the other half the next time, so that no value stays. Values
that nobody has seen change what no redrawing does: the only value, the highest. And each value
is missing once, though it be one row of all that is asked whether it is.

Where nothing of a source is known earlier, rows are taken out of it too.
"""

from dataclasses import dataclass
from typing import Literal

import duckdb

from tasks.leaks.pools import pool_columns, pool_rows
from tasks.leaks.strange import strange
from tasks.leaks.table import ROW, SourceTable, dice
from tasks.query import quoted

EIGHTHS = 8
TAKEN = 1
"""Of the values that are drawn by column, so many of eight become missing."""


@dataclass(frozen=True)
class Kind:
    """A way to change later values, and the eighths of the values that are changed."""

    way: Literal["rows", "columns", "missing", "strange values", "strange numbers"]
    first: int = 0
    last: int = EIGHTHS
    mask: str = ""
    """Kinds of one mask part the values alike."""


ROWS = Kind("rows", 0, 8)
KINDS = (
    Kind("columns", 0, 4, "halves"),
    Kind("strange values", 4, 8, "strange halves"),
    Kind("columns", 4, 8, "halves"),
    Kind("strange values", 0, 4, "strange halves"),
    Kind("columns", 0, 1, "few"),
    Kind("missing", 0, 4, "missing halves"),
    Kind("missing", 4, 8, "missing halves"),
)
AFTER_A_CUT = (Kind("strange values"), *KINDS, ROWS)
"""A cut may leave one row that tells something: there every value changes once more."""

MILDER: dict[str, tuple[Literal["rows", "columns", "strange numbers"], ...]] = {
    "rows": (),
    "columns": ("rows",),
    "missing": ("columns", "rows"),
    "strange values": ("strange numbers", "columns", "rows"),
}
"""What is tried where a query cannot stand a change, such as the logarithm of a duration that
ends before it begins."""


def milder(kind: Kind) -> list[Kind]:
    """Name the kinds to try where the query fails on this one."""
    return [Kind(way, kind.first, kind.last, kind.mask) for way in MILDER[kind.way]]


def changed(
    database: duckdb.DuckDBPyConnection, table: SourceTable, kind: Kind, seed: int, cut: int | None
) -> str:
    """Write the SELECT that gives the table's rows with later values changed.

    Its pools are made at once.
    """
    new = _values(database, table, kind, seed=seed, cut=cut)
    if table.known_at is not None:
        new = {c: _where('"is open"', value, c) for c, value in new.items()}
    columns = ", ".join(f"{new[c]} AS {quoted(c)}" if c in new else quoted(c) for c in table.types)
    was = f'SELECT *, rowid AS {ROW}, {table.open_at(cut)} AS "is open" FROM {table.stored}'
    kept = f"WHERE NOT ({_dropped(table, kind)})" if table.whole else ""
    return f"SELECT {columns} FROM ({was}) {kept}"


def _values(
    database: duckdb.DuckDBPyConnection, table: SourceTable, kind: Kind, seed: int, cut: int | None
) -> dict[str, str]:
    if kind.way != "rows":
        drawn = pool_columns(database, table, seed, cut)
        return {c: _cell(table, kind, c, seed=seed, drawn=value) for c, value in drawn.items()}
    if table.whole:  # moving rows changes nothing there
        return {}
    mask = _mask(table, kind, "")
    return {c: _where(mask, v, c) for c, v in pool_rows(database, table, seed, cut).items()}


def _where(condition: str, value: str, column: str) -> str:
    if condition == "true":
        return value
    return f"CASE WHEN {condition} THEN {value} ELSE {quoted(column)} END"


def _cell(table: SourceTable, kind: Kind, column: str, seed: int, drawn: str) -> str:
    """Write a value that is drawn, or a strange one; the moment it was known at stays real."""
    number = dice("value", seed, table.source, column)
    if kind.way == "missing":
        gone = f"CASE WHEN {quoted(column)} IS NULL THEN {drawn} END"
        return _where(_mask(table, kind, column), gone, column)
    new = None
    if kind.way != "columns" and column != table.known_at:
        texts = kind.way == "strange values"
        new = strange(quoted(column), table.types[column], number, texts=texts)
    if new is None:
        new = f"CASE WHEN {number} % {EIGHTHS} >= {TAKEN} THEN {drawn} END"
    return _where(_mask(table, kind, column), new, column)


def _mask(table: SourceTable, kind: Kind, column: str) -> str:
    if kind.last - kind.first == EIGHTHS:
        return "true"
    return _marked(table, kind, column)


def _marked(table: SourceTable, kind: Kind, column: str) -> str:
    eighth = f"{dice('mask', kind.mask, table.source, column)} % {EIGHTHS}"
    return f"{eighth} BETWEEN {kind.first} AND {kind.last - 1}"


def _dropped(table: SourceTable, kind: Kind) -> str:
    """Write which rows are taken out: half of them where all would be."""
    last = kind.last if kind.last - kind.first < EIGHTHS else EIGHTHS // 2
    half = Kind(kind.way, kind.first, last, kind.mask)
    return f'"is open" AND {_marked(table, half, "")}'
