"""Measure what a source holds, as `ingest` reads it, in one pass over batches of rows.

Memory is bounded by a batch and a few counts per column, whatever the source's size.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from slipway.errors import SlipwayError
from tasks import ingest
from tasks.profiles import RARE, Bound, ColumnProfile, SourceProfile
from tasks.sources import DAMAGED, Pin, open_pinned, unpacked

if TYPE_CHECKING:
    from slipway.config import Source

DISTINCT_MAX = 1000
"""A column with more values than these has no categories; they are no longer counted."""

FREQUENT = 20
"""The most frequent values that are kept."""

LONG = 60
"""A value with more characters than these is a text, no category."""


def profile(name: str, source: "Source", pin: Pin) -> SourceProfile:
    """Read a source once and say what it holds; raise SlipwayError where it cannot be read."""
    schema = pa.schema([(c, ingest.ARROW_TYPES[kind]) for c, kind in source.columns.items()])
    tallies = {field.name: _ColumnTally(field.type) for field in schema}
    rows = 0
    with open_pinned(name, source.url, pin) as packed:
        with unpacked(name, source.url, packed) as (file, suffix):
            stored = _stored(name, source, file, suffix)
        packed.seek(0)
        with unpacked(name, source.url, packed) as (file, suffix):
            for batch in _batches(name, source, ingest._read(file, suffix, schema)):
                rows += batch.num_rows
                for column, tally in tallies.items():
                    tally.add(batch[column])
    return SourceProfile(
        sha256=pin.sha256,
        size_bytes=pin.size_bytes,
        rows=rows,
        reads=dict(source.columns),
        columns={
            column: tally.result(stored.get(column) or source.columns[column])
            for column, tally in tallies.items()
        },
        unread={column: kind for column, kind in stored.items() if column not in source.columns},
    )


def unreadable(source: "Source", pin: Pin) -> SourceProfile:
    """Stand for a source that cannot be read as the config says."""
    return SourceProfile(pin.sha256, pin.size_bytes, rows=None, reads=dict(source.columns))


def _batches(
    name: str, source: "Source", batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except (pa.ArrowException, KeyError) as error:
        raise _explained(name, source, error) from None


def _stored(name: str, source: "Source", file: BinaryIO, suffix: str) -> dict[str, str]:
    """Return the columns that a file says it has, with the types that it says they have."""
    try:
        match suffix:
            case ".csv":
                return dict.fromkeys(pyarrow.csv.open_csv(file).schema.names, "")
            case ".parquet":
                return {field.name: str(field.type) for field in pq.ParquetFile(file).schema_arrow}
    except DAMAGED:
        raise  # `unpacked` says what that means
    except (pa.ArrowException, KeyError) as error:
        raise _explained(name, source, error) from None
    return {}  # lines of JSON may each have other keys; ingest names an unknown format


def _explained(name: str, source: "Source", error: Exception) -> SlipwayError:
    return SlipwayError(f"source {name!r} ({source.url}): {' '.join(str(error).split())}")


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
    return str(value.isoformat())
