"""Pools that values are drawn from: a few hundred of those that a source holds.

A pool is a variable of the database, so a draw is one look into a list, and a change of ten
million rows is made while the query reads them: nothing is sorted, joined or kept. A join would
also bring the rows in another order, and an average of floats would come out otherwise for it.
"""

import duckdb

from tasks.leaks.table import ROW, SourceTable, dice
from tasks.query import quoted

COLUMN_VALUES, PATTERN_ROWS = 512, 256
"""Values drawn for a column, and rows for each pattern of what is missing."""

PATTERNS_MAX = 32
"""Rows of rarer patterns take from all."""

DRAWN = '"what is drawn"'


def pool_columns(
    database: duckdb.DuckDBPyConnection, table: SourceTable, seed: int, cut: int | None
) -> dict[str, str]:
    """Pool the values of each later column, missing ones in their share; write a draw for each."""
    lists = ", ".join(
        f"list_transform(arg_min({{'value': {quoted(c)}}}, {dice('pool', seed, table.source, c)},"
        f" {COLUMN_VALUES}), lambda one: one.value) AS {quoted(c)}"
        for c in table.later
    )
    database.execute(
        f"CREATE OR REPLACE TEMP TABLE {DRAWN} AS SELECT {lists} FROM {_open(table, cut)}"
    )
    for column in table.later:
        _set(database, table, column, f"(SELECT {quoted(column)} FROM {DRAWN})")
    return {c: _draw(table, c, seed) for c in table.later}


def pool_rows(
    database: duckdb.DuckDBPyConnection, table: SourceTable, seed: int, cut: int | None
) -> dict[str, str]:
    """Pool whole rows of later values by what is missing in them; write a draw for each column.

    The draws of a row are of one row. No CASE or coalesce stands in them: DuckDB would work the
    place out again for every column.
    """
    fields = ", ".join(f"{quoted(c)} := {quoted(c)}" for c in table.later)
    database.execute(
        f"CREATE OR REPLACE TEMP TABLE {DRAWN} AS SELECT {_pattern(table)} AS pattern,"
        f" arg_min(struct_pack({fields}), {dice('pool', seed, table.source)}, {PATTERN_ROWS})"
        f" AS drawn, count(*) AS size FROM {_open(table, cut)} GROUP BY pattern"
    )
    for column in table.later:
        lists = f"list_transform(drawn, lambda one: one.{quoted(column)})"
        _set(
            database,
            table,
            column,
            f"(SELECT flatten(list({lists} ORDER BY size DESC, pattern)) FROM {DRAWN})",
        )
    sizes = database.execute(
        f"SELECT pattern, len(drawn) FROM {DRAWN} ORDER BY size DESC, pattern"
    ).fetchall()
    places = place_patterns(sizes)
    _set(database, table, "the starts", f"CAST({[start for start, _ in places]} AS UBIGINT[])")
    _set(database, table, "the sizes", f"CAST({[size for _, size in places]} AS UBIGINT[])")
    place = f"1 + CAST({_pattern(table)} % {len(places)} AS BIGINT)"
    start = f"list_extract({_get(table, 'the starts')}, {place})"
    size = f"list_extract({_get(table, 'the sizes')}, {place})"
    at = f"1 + CAST({start} + {dice('draw', seed, table.source)} % {size} AS BIGINT)"
    return {c: f"list_extract({_get(table, c)}, {at})" for c in table.later}


def place_patterns(sizes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Place the rows of each pattern one after the other: where they start, and how many.

    A pattern finds its place by its remainder, so there are as many places as tell the commonest
    apart. Rare ones and those of a single row, which would draw itself, take from all.
    """
    total = sum(size for _, size in sizes)
    own, start = {}, 0
    for pattern, size in sizes[:PATTERNS_MAX]:
        if size > 1:
            own[pattern] = (start, size)
        start += size
    modulus = max(len(own), 1)
    while len({pattern % modulus for pattern in own}) < len(own):
        modulus += 1
    places = [(0, total)] * modulus
    for pattern, place in own.items():
        places[pattern % modulus] = place
    return places


def _open(table: SourceTable, cut: int | None) -> str:
    return f"(SELECT *, rowid AS {ROW} FROM {table.stored} WHERE {table.open_at(cut)})"


def _pattern(table: SourceTable) -> str:
    """Write a number for which of a row's later values are missing."""
    return f"hash({', '.join(f'{quoted(c)} IS NULL' for c in table.later)})"


def _draw(table: SourceTable, column: str, seed: int) -> str:
    pool, number = _get(table, column), dice("draw", seed, table.source, column)
    return f"list_extract({pool}, 1 + CAST({number} % CAST(len({pool}) AS UBIGINT) AS BIGINT))"


def _set(database: duckdb.DuckDBPyConnection, table: SourceTable, name: str, value: str) -> None:
    database.execute(f"SET VARIABLE {quoted(f'{table.source} {name}')} = {value}")


def _get(table: SourceTable, name: str) -> str:
    return f"getvariable('{table.source} {name}')"
