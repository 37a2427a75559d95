"""What is known about a table: its roles, rows, schema, time range and sources."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slipway.errors import SlipwayError
from slipway.problem import Target

TABLE = "table.parquet"
FACTS = "table.json"

ROWS = "rows"
"""What a table is called in SQL."""

BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class TableFacts:
    """The record beside a table."""

    key: list[str]
    """The columns that name a row; none where its content does."""
    time: str | None
    """The column that places a row in time."""
    target: Target
    """The column to be predicted, and what its values stand for."""
    weight: str | None
    """The column that says how much a row counts."""
    rows: int
    schema: dict[str, str]
    """The columns in their order, with Arrow's types."""
    time_range: list[str] | None
    sources: dict[str, dict[str, Any]]
    known_later: list[str]
    leaks: list[str]

    @property
    def label(self) -> str:
        """Name the column to be predicted."""
        return self.target.name

    @property
    def problem(self) -> str:
        """Name the problem that it poses."""
        return self.target.problem


def read_facts(folder: Path) -> TableFacts:
    """Read the record beside a table."""
    found = json.loads((folder / FACTS).read_text("utf-8"))
    return TableFacts(**{**found, "target": read_target(found["target"])})


def read_target(found: dict[str, Any]) -> Target:
    """Read a target as JSON has it."""
    return Target(**{**found, "classes": tuple(found["classes"])})


def write_facts(folder: Path, facts: TableFacts) -> None:
    """Write the record beside a table."""
    write_json(folder / FACTS, asdict(facts))


def read_table(folder: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table from its folder."""
    return pq.read_table(folder / TABLE, columns=columns, memory_map=True)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet."""
    pq.write_table(table, path, compression="zstd", row_group_size=1 << 16)


@contextmanager
def open_table(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a table of any size as `rows`, in the order of its rows, whatever machine this is.

    By one thread: of several DuckDB 2.0 hands batches over as they are done, in another order.
    """
    with duckdb.connect(config={"threads": 1}) as database:
        path = text(str(folder / TABLE))
        database.execute(f"CREATE VIEW {ROWS} AS SELECT * FROM read_parquet({path})")
        yield database


def with_rows(facts: TableFacts, table: pa.Table) -> TableFacts:
    """Update what a changed set of rows changes."""
    return replace(facts, rows=table.num_rows, time_range=time_range(facts.time, table))


def time_range(time: str | None, table: pa.Table) -> list[str] | None:
    """Return the first and the last moment in a table."""
    if time is None or not table.num_rows:
        return None
    bounds = pc.min_max(table[time])
    return [bounds[end].as_py().isoformat() for end in ("min", "max")]


def with_extent(facts: TableFacts, rows: int, times: tuple[Any, Any] | None) -> TableFacts:
    """Update the same from what was measured of rows that nobody holds at once."""
    moments = None if times is None else [time.isoformat() for time in times]
    return replace(facts, rows=rows, time_range=moments)


def require_columns(there: list[str], wanted: list[str], who: str) -> None:
    """Refuse a config that names columns the table does not have."""
    if missing := [name for name in wanted if name not in there]:
        raise SlipwayError(
            f"{who} names columns that the query does not give: {', '.join(missing)};"
            f" it gives: {', '.join(there)}"
        )


def quoted(name: str) -> str:
    """Write a column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Write a text in SQL."""
    return "'" + value.replace("'", "''") + "'"


def write_json(path: Path, value: object) -> None:
    """Write JSON that is the same for the same value."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", "utf-8")
