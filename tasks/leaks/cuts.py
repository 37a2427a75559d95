"""The moments at which the later values that are known are parted from those that are not.

What was known before a row was asked for may be used, so only values known at the cut or after
it are changed, and only rows asked for until then are compared. A cut at the very moment at which
a value became known shows every row that used it before: whichever row that is, it was asked for
until then.
"""

from collections.abc import Sequence
from itertools import chain, zip_longest

import duckdb

from tasks.leaks.table import ROW, SourceTable, dice, microseconds
from tasks.query import quoted

CUTS = 24

KNOWN = '"when it was known"'


def choose_cuts(
    database: duckdb.DuckDBPyConnection,
    tables: Sequence[SourceTable],
    moments: str,
    seed: int,
) -> list[int]:
    """Choose moments: of random rows, of those with the rarest values, and of those that became
    known next after a row was asked for, or with it.

    `moments` is a SELECT of when rows were asked for, as `moment`.
    """
    since = _first(database, moments)
    found = []
    for table in tables:
        if table.known_at is not None and since is not None:
            rarest = [_rarest(database, table, column, since) for column in table.later]
            found += [
                _random(database, table, seed, since=since, count=CUTS),
                list(chain(*rarest)),
                _closest(database, table, moments, seed),
            ]
    in_turn = [cut for cut in chain(*zip_longest(*found)) if cut is not None]
    return list(dict.fromkeys(in_turn))[:CUTS]


def choose_one(
    database: duckdb.DuckDBPyConnection, tables: Sequence[SourceTable], moments: str
) -> list[int]:
    """Choose the moment of a random row, if there is one."""
    if (since := _first(database, moments)) is None:
        return []
    found = [
        _random(database, table, 0, since=since, count=1) for table in tables if table.known_at
    ]
    return list(chain(*found))[:1]


def _first(database: duckdb.DuckDBPyConnection, moments: str) -> int | None:
    [(first,)] = database.execute(f"SELECT min(moment) FROM ({moments})").fetchall()
    return None if first is None else int(first)


def _random(
    database: duckdb.DuckDBPyConnection, table: SourceTable, seed: int, since: int, count: int
) -> list[int]:
    order = dice("cut", seed, table.source)
    chosen = f"SELECT {KNOWN} FROM {_known(table)} WHERE {KNOWN} >= {since} ORDER BY {order}"
    return [cut for (cut,) in database.execute(f"{chosen} LIMIT {count}").fetchall()]


def _rarest(
    database: duckdb.DuckDBPyConnection, table: SourceTable, column: str, since: int
) -> list[int]:
    rarest = (
        f"SELECT arg_min({KNOWN}, {ROW}) FROM {_known(table)} WHERE {KNOWN} >= {since}"
        f" GROUP BY {quoted(column)} ORDER BY count(*), 1 LIMIT 1"
    )
    return [cut for (cut,) in database.execute(rarest).fetchall()]


def _closest(
    database: duckdb.DuckDBPyConnection, table: SourceTable, moments: str, seed: int
) -> list[int]:
    order = dice("closest", seed, table.source)
    chosen = (
        f"SELECT {KNOWN} FROM {_known(table)} AS source"
        f" ASOF JOIN (SELECT DISTINCT moment FROM ({moments})) AS asked"
        f" ON source.{KNOWN} >= asked.moment ORDER BY {KNOWN} - asked.moment, {order}"
    )
    return [cut for (cut,) in database.execute(f"{chosen} LIMIT {CUTS}").fetchall()]


def _known(table: SourceTable) -> str:
    assert table.known_at is not None
    known = microseconds(table.known_at)
    return f"(SELECT *, {known} AS {KNOWN}, rowid AS {ROW} FROM {table.stored})"
