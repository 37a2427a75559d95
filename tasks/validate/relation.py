"""The table under validation: DuckDB over its Parquet file, of which it reads what a rule needs.

Not a number (NaN) is read as missing, as Great Expectations' own pandas engine has it: no
comparison is true of it, and Parquet's statistics leave it out.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from tasks.validate.columns import Column, make_column
from tasks.validate.literals import Refusal, quoted_text

ROW = "row_number"
"""The position of a row in the file, from 0."""

WHOLE = "whole"
EMPTY = "nothing"
BROKEN = "broken"
"""Rows that break a rule for rows: their numbers and the rules."""

KEPT = "kept"
"""The rows that are left."""

MEMORY = "256MB"
"""What queries may hold before they use the disk: groups of a unique key grow with the rows."""

INTERRUPT_AGAIN_S = 0.2
"""An interrupt between two queries is lost."""


class OutOfTime(BaseException):
    """Validation took too long. No `Exception`: Great Expectations makes a failure of those."""


@dataclass(frozen=True)
class Relation:
    """Rows of the table, all or some of them, and how to ask about them."""

    database: duckdb.DuckDBPyConnection
    columns: tuple[Column, ...]
    name: str
    """The view that queries name."""
    deadline: float
    """The monotonic time after which no query is answered."""

    def column(self, name: str) -> Column:
        """Find a column by its name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise Refusal(f"the table has no column {name!r}; it has: {', '.join(self.names)}")

    @property
    def names(self) -> list[str]:
        """List the columns."""
        return [column.name for column in self.columns]

    def view(self, name: str) -> "Relation":
        """Turn to other rows of the same table."""
        return replace(self, name=name)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Answer a query, unless there is no time left."""
        try:
            self._require_time()
            return self._rows(query)
        except duckdb.InterruptException:
            self._require_time()
            raise

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        try:
            return self.database.execute(query).fetchall()
        except duckdb.OutOfMemoryException:  # quantiles cannot use the disk
            self.database.execute("RESET memory_limit")
            return self.database.execute(query).fetchall()

    def _require_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime


@contextmanager
def opened(path: Path, timeout_s: float, scratch: Path) -> Iterator[Relation]:
    """Open the table of a Parquet file; stop every query when the time is up."""
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.execute("SET preserve_insertion_order = true")
        database.execute(f"SET memory_limit = '{MEMORY}'")
        database.execute(f"SET temp_directory = {quoted_text(str(scratch))}")
        columns = _create_views(database, path)
        with _interrupted_after(database, timeout_s):
            yield Relation(database, columns, WHOLE, time.monotonic() + timeout_s)


def _create_views(database: duckdb.DuckDBPyConnection, path: Path) -> tuple[Column, ...]:
    schema = pq.read_schema(path)
    file = f"read_parquet({quoted_text(str(path))}, hive_partitioning = false"
    found = database.execute(f"DESCRIBE SELECT * FROM {file})").fetchall()
    columns = tuple(
        make_column(i, field, str(types[1]))
        for i, (field, types) in enumerate(zip(schema, found, strict=True))
    )
    names = ", ".join([*(column.sql for column in columns), ROW])
    values = ", ".join([ROW, *map(_value, columns)])
    database.execute(
        f"CREATE VIEW {WHOLE} AS SELECT {values}"
        f" FROM {file}, file_row_number = true) AS file({names})"
    )
    database.execute(f"CREATE TEMP TABLE {EMPTY} AS FROM {WHOLE} LIMIT 0")
    database.execute(f"CREATE TEMP TABLE {BROKEN} ({ROW} BIGINT, rules INTEGER[])")
    database.execute(f"CREATE VIEW {KEPT} AS FROM {WHOLE} ANTI JOIN {BROKEN} USING ({ROW})")
    return columns


def _value(column: Column) -> str:
    if column.kind != "float":
        return column.sql
    # nullif(x, 'nan') is optimized away: DuckDB 2.0 takes statistics without NaN for all values
    return f"CASE WHEN isnan({column.sql}) THEN NULL ELSE {column.sql} END AS {column.sql}"


@contextmanager
def _interrupted_after(database: duckdb.DuckDBPyConnection, timeout_s: float) -> Iterator[None]:
    over = threading.Event()

    def watch() -> None:
        wait_s = timeout_s
        while not over.wait(wait_s):
            database.interrupt()
            wait_s = INTERRUPT_AGAIN_S

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
