"""Pools that values are drawn from: a few hundred of those that a source holds.

A draw is one look into a list, so that a change of ten million rows is made while the query
reads them: nothing is sorted, joined or kept.
"""

import duckdb

from tasks.leaks.table import ROW, Table, dice
from tasks.query import quoted

POOL = '"the pool"'

COLUMN_VALUES, PATTERN_ROWS = 512, 256
"""Values drawn for a column, and rows for each pattern of what is missing."""

PATTERNS_MAX = 32
"""Rows of rarer patterns take from all."""


def pool_columns(
    database: duckdb.DuckDBPyConnection, table: Table, seed: int, cut: int | None
) -> None:
    """Draw values of each later column by itself, missing ones in their share."""
    lists = ", ".join(
        f"list_transform(arg_min({{'value': {quoted(c)}}}, {dice('pool', seed, table.source, c)},"
        f" {COLUMN_VALUES}), lambda one: one.value) AS {_pooled(c)}"
        for c in table.later
    )
    database.execute(
        f"CREATE OR REPLACE TEMP TABLE {POOL} AS SELECT {lists}"
        f" FROM (SELECT *, rowid AS {ROW} FROM {table.stored} WHERE {table.open_at(cut)})"
    )


def draw_value(table: Table, column: str, seed: int) -> str:
    """Write the draw of a column's value from the pool."""
    pooled, number = _pooled(column), dice("draw", seed, table.source, column)
    return f"list_extract({pooled}, 1 + CAST({number} % CAST(len({pooled}) AS UBIGINT) AS BIGINT))"


def pool_rows(database: duckdb.DuckDBPyConnection, table: Table, seed: int, cut: int | None) -> int:
    """Draw whole rows of later values for each pattern of what is missing.

    Returns the modulus by which a pattern finds its place: one that tells the commonest apart.
    """
    fields = ", ".join(f"{quoted(c)} := {quoted(c)}" for c in table.later)
    database.execute(
        f"CREATE OR REPLACE TEMP TABLE {POOL} AS SELECT {pattern(table)} AS pattern,"
        f" arg_min(struct_pack({fields}), {dice('pool', seed, table.source)}, {PATTERN_ROWS})"
        f" AS drawn, count(*) AS size"
        f" FROM (SELECT *, rowid AS {ROW} FROM {table.stored} WHERE {table.open_at(cut)})"
        f" GROUP BY pattern"
    )
    found = database.execute(
        f"SELECT pattern, len(drawn) FROM {POOL} ORDER BY size DESC, pattern"
    ).fetchall()
    modulus, starts, sizes = _places(found)
    lists = ", ".join(
        f"list_transform(drawn, lambda one: one.{quoted(c)}) AS {_pooled(c)}" for c in table.later
    )
    database.execute(
        f"CREATE OR REPLACE TEMP TABLE {POOL} AS SELECT {lists},"
        f' CAST({starts} AS UBIGINT[]) AS "the starts", CAST({sizes} AS UBIGINT[]) AS "the sizes"'
        f" FROM (SELECT flatten(list(drawn ORDER BY size DESC, pattern)) AS drawn FROM {POOL})"
    )
    return modulus


def _places(found: list[tuple[int, int]]) -> tuple[int, list[int], list[int]]:
    """Place the patterns' rows one after the other; a pattern of one row takes from all."""
    total = sum(size for _, size in found)
    own = [(p, size) for p, size in found[:PATTERNS_MAX] if size > 1]
    modulus = next(
        m for m in range(len(own) or 1, 1 << 20) if len({p % m for p, _ in own}) == len(own)
    )
    starts, sizes = [0] * modulus, [total] * modulus
    start = 0
    for pattern_, size in found[:PATTERNS_MAX]:
        if size > 1:
            starts[pattern_ % modulus], sizes[pattern_ % modulus] = start, size
        start += size
    return modulus, starts, sizes


def pattern(table: Table) -> str:
    """Write a number for which of a row's later values are missing."""
    return f"hash({', '.join(f'{quoted(c)} IS NULL' for c in table.later)})"


def draw_row(table: Table, modulus: int, seed: int) -> dict[str, str]:
    """Write the draw of a whole row from the pool, by column.

    Without CASE or coalesce: DuckDB would work the place out again for every column.
    """
    place = f"1 + CAST({pattern(table)} % {modulus} AS BIGINT)"
    start, size = (f'list_extract("the {which}", {place})' for which in ("starts", "sizes"))
    number = dice("draw", seed, table.source)
    at = f"1 + CAST({start} + {number} % {size} AS BIGINT)"
    return {c: f"list_extract({_pooled(c)}, {at})" for c in table.later}


def _pooled(column: str) -> str:
    return quoted(f"drawn {column}")  # no column of a source has a space in its name
