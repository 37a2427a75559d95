"""What a source held when it was read, and which of its values are known only later."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import duckdb

from tasks.query import quoted

if TYPE_CHECKING:
    from slipway.config import IngestConfig

ROW = '"the row"'
"""The number of a row in what the SELECTs of this package read: no column has such a name."""


@dataclass(frozen=True)
class SourceTable:
    """A source, or a part of it, as it was read."""

    source: str
    stored: str
    """Where its rows are while other ones stand in the source's place, quoted."""
    types: Mapping[str, str]
    """DuckDB's type of each column, in the order of the config."""
    later: tuple[str, ...]
    known_at: str | None
    """The column that tells when a row's later values became known; None: nobody knows."""

    @property
    def whole(self) -> bool:
        """Nothing of the source is known earlier: whether a row is there neither."""
        return set(self.types) == set(self.later)

    def open_at(self, cut: int | None) -> str:
        """Write the condition of the rows whose later values are not known before the cut.

        Without a cut these are the rows of which nobody knows when.
        """
        if self.known_at is None:
            return "true"
        known = microseconds(self.known_at)
        return f"{known} IS NULL" if cut is None else f"coalesce({known} >= {cut}, true)"


def microseconds(column: str) -> str:
    """Write a moment as a number, whatever its type; an infinite one is none."""
    return f"TRY(epoch_us({quoted(column)}))"


def dice(*purpose: object) -> str:
    """Write a number that is drawn for each row by its place, another for each purpose.

    DuckDB 2.0 makes the hash of two values an xor of theirs, so two seeds would give the same
    draws; a sum inside one hash gives others.
    """
    seed = crc32("/".join(map(str, purpose)).encode()) % (1 << 26)
    return f"hash({ROW} + {seed << 36})"


@contextmanager
def set_aside(
    database: duckdb.DuckDBPyConnection, config: "IngestConfig"
) -> Iterator[tuple[SourceTable, ...]]:
    """Free the names of the sources for a while, for other rows to stand there."""
    tables = tuple(_table(database, config, name) for name in config.sources)
    for table in tables:
        database.execute(f"ALTER TABLE {quoted(table.source)} RENAME TO {table.stored}")
    try:
        yield tables
    finally:
        for table in tables:
            database.execute(f"ALTER TABLE {table.stored} RENAME TO {quoted(table.source)}")


def _table(database: duckdb.DuckDBPyConnection, config: "IngestConfig", name: str) -> SourceTable:
    source = config.sources[name]
    relation = database.table(quoted(name))
    types = {c: str(kind) for c, kind in zip(relation.columns, relation.types, strict=True)}
    later = tuple(column for column in types if column in set(source.known_later))
    return SourceTable(name, f'"{name} as read"', types, later, known_at=source.known_at)


@contextmanager
def standing(
    database: duckdb.DuckDBPyConnection, selects: Mapping[str, str], *, stored: bool
) -> Iterator[None]:
    """Let the rows of these SELECTs stand in the sources' places for a while.

    `stored` writes them down: faster where they are few, and a query that names `rowid` needs it.
    """
    kind = "TABLE" if stored else "VIEW"
    made = []
    try:
        for name, select in selects.items():
            database.execute(f"CREATE TEMP {kind} {quoted(name)} AS {select}")
            made.append(name)
        yield
    finally:
        for name in made:
            database.execute(f"DROP {kind} {quoted(name)}")
