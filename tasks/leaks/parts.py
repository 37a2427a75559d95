"""Parts of large sources, for a leak shows in a part as well as in everything.

Whatever rows a source holds, a feature may not follow what is known only later; so any part will
do, and the more of the joins it keeps the more it shows. Every large source gives the rows of the
same hashes of the key, so what belongs together stays together; small ones come whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb

from tasks.leaks.table import ROW, SourceTable, dice
from tasks.query import quoted

PART_ROWS = 25_000
"""Rows of the largest source in a part, about; sources of up to twice as many come whole."""


@dataclass(frozen=True)
class Sampling:
    """Which sources are large, what parts them, and how many rows make one."""

    large: tuple[str, ...]
    columns: tuple[str, ...]
    """Empty: by the row."""
    parts: int


def plan_sampling(
    database: duckdb.DuckDBPyConnection, tables: Sequence[SourceTable], key: Sequence[str]
) -> Sampling | None:
    """Decide how to take parts; None where the sources are small or share no column of the key."""
    counts = _counts(database, tables)
    large = [t for t in tables if counts[t.source] > 2 * PART_ROWS]
    if not large:
        return None
    first, *others = large
    shared = tuple(
        c for c in key if all(c in t.types and t.types[c] == first.types.get(c) for t in large)
    )
    if others and not shared:
        return None
    parts = max(counts.values()) // PART_ROWS
    return Sampling(tuple(t.source for t in large), shared, parts)


def are_small(database: duckdb.DuckDBPyConnection, tables: Sequence[SourceTable]) -> bool:
    """Tell whether the sources come whole, each of them."""
    return max(_counts(database, tables).values()) <= 2 * PART_ROWS


def _counts(database: duckdb.DuckDBPyConnection, tables: Sequence[SourceTable]) -> dict[str, int]:
    counts = {}
    for table in tables:
        [(rows,)] = database.execute(f"SELECT count(*) FROM {table.stored}").fetchall()
        counts[table.source] = int(rows)
    return counts


def draw_part(
    database: duckdb.DuckDBPyConnection,
    tables: Sequence[SourceTable],
    sampling: Sampling,
    seed: int,
) -> tuple[SourceTable, ...]:
    """Draw rows of the large sources into tables of their own."""
    return tuple(
        _draw(database, table, sampling, seed) if table.source in sampling.large else table
        for table in tables
    )


def _draw(
    database: duckdb.DuckDBPyConnection, table: SourceTable, sampling: Sampling, seed: int
) -> SourceTable:
    unit = f"CAST(hash({', '.join(map(quoted, sampling.columns))}) % {1 << 35} AS BIGINT)"
    drawn = f"{dice('part', seed)} % {sampling.parts} = 0"
    stored = f'"{table.source} in part"'
    database.execute(
        f"CREATE OR REPLACE TEMP TABLE {stored} AS SELECT * EXCLUDE ({ROW}) FROM"
        f" (SELECT *, {unit if sampling.columns else 'rowid'} AS {ROW} FROM {table.stored})"
        f" WHERE {drawn}"
    )
    return replace(table, stored=stored)
