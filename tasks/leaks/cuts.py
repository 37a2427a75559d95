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
    found = [_of_table(database, table, seed, since) for table in tables if table.known_at]
    in_turn = [cut for cut in chain(*zip_longest(*found)) if cut is not None]
    return list(dict.fromkeys(in_turn))[:CUTS]


def _of_table(
    database: duckdb.DuckDBPyConnection, table: Table, seed: int, since: int
) -> list[int]:
    assert table.known_at is not None
    known = microseconds(table.known_at)
    order = dice("cut", seed, table.source)
    rows = (
        f"SELECT *, {known} AS known, rowid AS {ROW} FROM {table.stored} WHERE {known} >= {since}"
    )
    chosen = database.execute(
        f"SELECT known FROM ({rows}) ORDER BY {order} LIMIT {CUTS}"
    ).fetchall()
    rarest = [
        database.execute(
            f"SELECT arg_min(known, {order}) AS first FROM ({rows}) GROUP BY {quoted(c)}"
            " ORDER BY count(*), first LIMIT 1"
        ).fetchall()
        for c in table.later
    ]
    return [
        cut
        for (cut,) in chain(*zip_longest(chosen, chain(*rarest), fillvalue=(None,)))
        if cut is not None
    ]
