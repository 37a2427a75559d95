"""The moments at which the later values that are known are parted from those that are not.

What was known before a row was asked for may be used, so only values known at the cut or after
it are changed, and only rows asked for until then are compared. A cut at the very moment at which
a value became known shows every row that used it before: whichever row that is, it was asked for
until then.
"""

from collections.abc import Sequence
from itertools import chain, zip_longest

import duckdb

from tasks.leaks.table import ROW, Table, dice, microseconds
from tasks.query import quoted

CUTS = 21


def choose_cuts(
    database: duckdb.DuckDBPyConnection, tables: Sequence[Table], seed: int, since: int
) -> list[int]:
    """Choose moments after the first row: of random rows, and of those with the rarest values."""
    found = []
    for table in tables:
        if table.known_at is not None:
            rarest = [_rarest(database, table, column, since) for column in table.later]
            found += [_random(database, table, seed, since, CUTS), list(chain(*rarest))]
    in_turn = [cut for cut in chain(*zip_longest(*found)) if cut is not None]
    return list(dict.fromkeys(in_turn))[:CUTS]


def choose_one(
    database: duckdb.DuckDBPyConnection, tables: Sequence[Table], since: int
) -> list[int]:
    """Choose the moment of a random row, if there is one."""
    found = [_random(database, table, 0, since, 1) for table in tables if table.known_at]
    return list(chain(*found))[:1]


def _random(
    database: duckdb.DuckDBPyConnection, table: Table, seed: int, since: int, count: int
) -> list[int]:
    order = dice("cut", seed, table.source)
    chosen = f"SELECT known FROM {_known(table, since)} ORDER BY {order} LIMIT {count}"
    return [cut for (cut,) in database.execute(chosen).fetchall()]


def _rarest(
    database: duckdb.DuckDBPyConnection, table: Table, column: str, since: int
) -> list[int]:
    rarest = (
        f"SELECT arg_min(known, {ROW}) AS first FROM {_known(table, since)}"
        f" GROUP BY {quoted(column)} ORDER BY count(*), first LIMIT 1"
    )
    return [cut for (cut,) in database.execute(rarest).fetchall()]


def _known(table: Table, since: int) -> str:
    assert table.known_at is not None
    known = microseconds(table.known_at)
    return (
        f"(SELECT *, {known} AS known, rowid AS {ROW} FROM {table.stored} WHERE {known} >= {since})"
    )
