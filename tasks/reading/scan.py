"""What every format gives: where DuckDB reads a file, and what it must make of each column."""

from dataclasses import dataclass, field

from tasks.reading.sql import quoted, text
from tasks.reading.types import duckdb_type

UNREADABLE = "slipway: a value cannot be read"
"""What the query says where a value is not what its column is declared to be."""


@dataclass(frozen=True)
class Cell:
    """One declared column of a file, in SQL."""

    name: str
    kind: str
    raw: str
    """What stands there, as text; NULL where there is no value."""
    value: str
    """The same as the declared type; NULL where it is none."""
    sure: bool = False
    """Every value can be read."""

    @property
    def unreadable(self) -> str:
        """The condition that there is a value, which is none of the type."""
        return f"({self.raw}) IS NOT NULL AND ({self.value}) IS NULL"

    @property
    def selected(self) -> str:
        """The value, or an error."""
        kind = duckdb_type(self.kind)
        if self.sure:
            return f"CAST({self.value} AS {kind}) AS {quoted(self.name)}"
        stop = f"CASE WHEN ({self.raw}) IS NOT NULL THEN error({text(UNREADABLE)}) END"
        return f"CAST(coalesce({self.value}, {stop}) AS {kind}) AS {quoted(self.name)}"


@dataclass(frozen=True)
class Scan:
    """How one file is read."""

    table: str
    """The table function, in SQL."""
    cells: tuple[Cell, ...]
    stored: dict[str, str] = field(default_factory=dict)
    """Every column of the file, with its type where the file says one."""

    @property
    def select(self) -> str:
        """The query that gives the declared columns in their order, or an error."""
        return f"SELECT {', '.join(cell.selected for cell in self.cells)} FROM {self.table}"

    @property
    def first_unreadable(self) -> str:
        """The query that gives the number, from 1, and the texts of the first row that it stops at.

        `row_number()` counts in the order of the file.
        """
        raws = ", ".join(f"{cell.raw} AS r{i}" for i, cell in enumerate(self.cells))
        bad = ", ".join(
            f"{'false' if cell.sure else cell.unreadable} AS b{i}"
            for i, cell in enumerate(self.cells)
        )
        wrong = " OR ".join(f"b{i}" for i in range(len(self.cells)))
        return (
            f"SELECT * FROM (SELECT row_number() OVER () AS row, {raws}, {bad} FROM {self.table})"
            f" WHERE {wrong} ORDER BY row LIMIT 1"
        )
