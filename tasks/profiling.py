"""Measure what a source holds, as `ingest` reads it, over batches of rows.

Memory is bounded, whatever the source's size: what was read spills to disk beyond `MEMORY`.
"""

import math
from decimal import Decimal
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tasks.profiles import RARE, Bound, ColumnProfile, SourceProfile
from tasks.reading.sql import quoted, text
from tasks.reading.table import load
from tasks.sources import Pin, open_pinned

if TYPE_CHECKING:
    from slipway.config import Source

MEMORY = "1GB"
BATCH_ROWS = 1 << 16

DISTINCT_MAX = 1000
"""A column with more values than these has no categories; they are no longer counted."""

FREQUENT = 20
"""The most frequent values that are kept."""

LONG = 60
"""A value with more characters than these is a text, no category."""


def profile(name: str, source: "Source", pin: Pin) -> SourceProfile:
    """Read a source once and say what it holds; raise SlipwayError where it cannot be read."""
    with TemporaryDirectory(prefix="slipway-") as folder, duckdb.connect() as database:
        database.execute(f"SET memory_limit = '{MEMORY}'")
        database.execute(f"SET temp_directory = {text(folder)}")
        with open_pinned(name, source.url, pin) as files:
            loaded = load(database, name, source, files)
        columns = _tallied(database, name)
    return SourceProfile(
        sha256=pin.sha256,
        size_bytes=pin.size_bytes,
        rows=loaded.rows,
        reads=dict(source.columns),
        columns={
            column: tally.result(loaded.stored.get(column) or source.columns[column])
            for column, tally in columns.items()
        },
        unread={c: kind for c, kind in loaded.stored.items() if c not in source.columns},
    )


def _tallied(database: duckdb.DuckDBPyConnection, name: str) -> dict[str, "_ColumnTally"]:
    """Take what was read into account, batch by batch."""
    reader = database.sql(f"FROM {quoted(name)}").to_arrow_reader(BATCH_ROWS)
    tallies = {field.name: _ColumnTally(field.type) for field in reader.schema}
    for batch in reader:
        for column, tally in tallies.items():
            tally.add(batch[column])
    return tallies


def unreadable(source: "Source", pin: Pin) -> SourceProfile:
    """Stand for a source that cannot be read as the config says."""
    return SourceProfile(pin.sha256, pin.size_bytes, rows=None, reads=dict(source.columns))


class _ColumnTally:
    """What is known of one column so far."""

    def __init__(self, kind: pa.DataType) -> None:
        self.nulls = 0
        self.low: Any = None
        self.high: Any = None
        categories = pa.types.is_string(kind) or pa.types.is_boolean(kind)
        self.counts: dict[str, int] | None = {} if categories else None
        self._ranged, self._floats = not categories, pa.types.is_floating(kind)

    def add(self, column: pa.Array) -> None:
        """Take one batch of the column into account."""
        if self._floats:
            column = pc.if_else(pc.is_nan(column), None, column)
        self.nulls += column.null_count
        if self._ranged and column.null_count < len(column):
            bounds = pc.min_max(column)
            low, high = bounds["min"].as_py(), bounds["max"].as_py()
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)
        if self.counts is not None:
            self._count(column.drop_null(), self.counts)

    def _count(self, column: pa.Array, counts: dict[str, int]) -> None:
        for entry in pc.value_counts(column):
            value = entry["values"].as_py()
            text = str(value).lower() if isinstance(value, bool) else value
            counts[text] = counts.get(text, 0) + entry["counts"].as_py()
            if len(counts) > DISTINCT_MAX:
                self.counts = None
                return

    def result(self, kind: str) -> ColumnProfile:
        """Return what was found, in an order that does not depend on that of the rows."""
        counts = self.counts or {}
        shown = [(v, n) for v, n in counts.items() if n >= RARE and len(v) <= LONG]
        return ColumnProfile(
            type=kind,
            nulls=self.nulls,
            low=_plain(self.low),
            high=_plain(self.high),
            distinct=None if self.counts is None else len(counts),
            frequent=dict(sorted(shown, key=lambda pair: (-pair[1], pair[0]))[:FREQUENT]),
        )


def _plain(value: Any) -> Bound | None:
    """Turn a bound into what JSON has."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) and value else value + 0.0  # no negative zero
    if isinstance(value, Decimal):
        return float(value)
    return str(value.isoformat())
