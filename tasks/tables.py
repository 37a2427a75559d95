"""What is known about a table: its roles, rows, schema, time range and sources."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slipway.errors import SlipwayError

TABLE = "table.parquet"
FACTS = "table.json"


@dataclass(frozen=True)
class TableFacts:
    """The record beside a table."""

    key: list[str]
    time: str
    label: str
    rows: int
    schema: dict[str, str]
    time_range: list[str]
    sources: dict[str, dict[str, Any]]
    known_later: list[str]
    leaks: list[str]
    problem: str
    """What kind of answer the label asks for."""


def read_facts(folder: Path) -> TableFacts:
    """Read the record beside a table."""
    return TableFacts(**json.loads((folder / FACTS).read_text("utf-8")))


def write_facts(folder: Path, facts: TableFacts) -> None:
    """Write the record beside a table."""
    write_json(folder / FACTS, asdict(facts))


def read_table(folder: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table from its folder."""
    return pq.read_table(folder / TABLE, columns=columns, memory_map=True)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet."""
    pq.write_table(table, path, compression="zstd", row_group_size=1 << 16)


def with_rows(facts: TableFacts, table: pa.Table) -> TableFacts:
    """Update what a changed set of rows changes."""
    bounds = pc.min_max(table[facts.time])
    times = [bounds[end].as_py().isoformat() for end in ("min", "max")]
    return replace(facts, rows=table.num_rows, time_range=times)


def with_extent(facts: TableFacts, rows: int, times: tuple[Any, Any]) -> TableFacts:
    """Update the same from what was measured of rows that nobody holds at once."""
    return replace(facts, rows=rows, time_range=[time.isoformat() for time in times])


def require_columns(table: pa.Table, wanted: list[str], who: str) -> None:
    """Refuse a config that names columns the table does not have."""
    if missing := [name for name in wanted if name not in table.column_names]:
        raise SlipwayError(
            f"{who} names columns that the query does not give: {', '.join(missing)};"
            f" it gives: {', '.join(table.column_names)}"
        )


def write_json(path: Path, value: object) -> None:
    """Write JSON that is the same for the same value."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", "utf-8")
