"""Rows set aside and rows that are left: found in SQL, copied as Parquet, batch by batch.

The rows do not pass through DuckDB: what is written has the schema that was read, with every
type, precision and time zone, and no more than a batch is in memory.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.validate.relation import BROKEN, ROW, Relation
from tasks.validate.row_tests import RowTest

REASON = "reason"
BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class BrokenRows:
    """The rows that break a rule for rows."""

    rows: np.ndarray
    """Their positions, ascending."""
    reasons: tuple[tuple[int, ...], ...]
    """The rules that each breaks, by number."""


def find_broken(relation: Relation, tests: Sequence[tuple[int, RowTest]]) -> int:
    """Note which rows break which rules; return how many rows do."""
    if not tests:
        return 0
    parts = " UNION ALL ".join(
        f"SELECT {ROW}, {number} AS rule FROM {relation.name} WHERE {test.found}"
        for number, test in tests
    )
    relation.rows(
        f"INSERT INTO {BROKEN} SELECT {ROW}, list(rule ORDER BY rule)"
        f" FROM ({parts}) GROUP BY {ROW} ORDER BY {ROW}"
    )
    [(count,)] = relation.rows(f"SELECT count(*) FROM {BROKEN}")
    return int(count)


def most_common(relation: Relation) -> tuple[int, ...]:
    """Return the rules that most of the broken rows break."""
    [(rules,)] = relation.rows(
        f"SELECT rules FROM {BROKEN} GROUP BY rules ORDER BY count(*) DESC, rules LIMIT 1"
    )
    return tuple(rules)


def read_broken(relation: Relation) -> BrokenRows:
    """Read the rows that were noted."""
    found = relation.rows(f"SELECT {ROW}, rules FROM {BROKEN} ORDER BY {ROW}")
    rows = np.array([row for row, _ in found], np.int64)
    return BrokenRows(rows, tuple(tuple(rules) for _, rules in found))


def part(source: Path, good: Path, aside: Path, broken: BrokenRows, texts: Sequence[str]) -> None:
    """Write the rows that are left, and those set aside with the reason."""
    schema = pq.read_schema(source)
    reasons = ["; ".join(texts[number] for number in rules) for rules in broken.reasons]
    if not reasons:
        shutil.copyfile(source, good)
        pq.write_table(schema.append(pa.field(REASON, pa.string())).empty_table(), aside)
        return
    with (
        pq.ParquetWriter(good, schema, compression="zstd") as kept,
        pq.ParquetWriter(
            aside, schema.append(pa.field(REASON, pa.string())), compression="zstd"
        ) as set_aside,
    ):
        for start, batch in _batches(source):
            here = _between(broken.rows, start, start + batch.num_rows)
            kept.write_batch(_without(batch, broken.rows[here] - start))
            if here.stop > here.start:
                why = pa.array(reasons[here], pa.string())
                bad = batch.take(pa.array(broken.rows[here] - start))
                set_aside.write_batch(bad.append_column(REASON, why))


def _batches(source: Path) -> Iterator[tuple[int, pa.RecordBatch]]:
    start = 0
    with pq.ParquetFile(source, memory_map=True) as file:
        for batch in file.iter_batches(BATCH_ROWS):
            yield start, batch
            start += batch.num_rows


def _between(rows: np.ndarray, start: int, end: int) -> slice:
    low, high = np.searchsorted(rows, [start, end])
    return slice(int(low), int(high))


def _without(batch: pa.RecordBatch, rows: np.ndarray) -> pa.RecordBatch:
    if not len(rows):
        return batch
    mask = np.ones(batch.num_rows, bool)
    mask[rows] = False
    return batch.filter(pa.array(mask))


@dataclass(frozen=True)
class Extent:
    """What is known of rows without holding them."""

    rows: int
    labels: pa.Table
    """What is to be predicted, row by row."""
    times: tuple[Any, Any] | None
    """The first and the last moment."""


def measure(path: Path, label: str, time: str | None) -> Extent:
    """Read what is to be predicted, and when the first and the last row are."""
    labels = pq.read_table(path, columns=[label], memory_map=True)
    if time is None:
        return Extent(labels.num_rows, labels, None)
    bounds: list[pa.Scalar] = []
    with pq.ParquetFile(path, memory_map=True) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=[time]):
            ends = pc.min_max(batch[time])
            bounds += [ends[end] for end in ("min", "max") if ends[end].is_valid]
    times = [bound.as_py() for bound in bounds]
    return Extent(labels.num_rows, labels, (min(times), max(times)) if times else None)
