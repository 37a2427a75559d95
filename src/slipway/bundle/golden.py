"""The golden set inside a bundle: fixed rows, their labels, and what this model answered.

`golden.arrow` is an Arrow IPC file, uncompressed: one column per input (null = missing),
`label`, and `expected.<output>` per output. The schema's metadata holds the precision and
how far a host's answers may lie from the expected ones.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from slipway.bundle.format import Document, parse_document
from slipway.errors import BundleRefused

Tensors = dict[str, npt.NDArray[Any]]

LABEL = "label"
EXPECTED = "expected."
METADATA = b"slipway"


class _Metadata(Document):
    precision: str
    tolerance: dict[str, float]
    outputs: list[str] = Field(min_length=1)


@dataclass(frozen=True)
class Golden:
    """Golden rows in memory, in the form that a session takes."""

    inputs: Tensors
    """Per input: object array of str ("" = missing), float32 (NaN = missing) or int64."""
    labels: npt.NDArray[np.int8]
    """What came true, 0 or 1."""
    expected: Tensors
    """Per output: what this model answered where it was proven, float32."""
    tolerance: dict[str, float]
    """Per output: the largest difference from `expected` that a host may measure."""
    precision: str
    """The exported form that answered."""

    @property
    def rows(self) -> int:
        """Count the golden rows."""
        return len(self.labels)


@dataclass(frozen=True)
class GoldenResult:
    """What re-running the golden set measured."""

    rows: int
    """Golden rows that were run."""
    largest: dict[str, float]
    """Per output: largest difference from the expected answers; inf if any was not finite."""
    tolerance: dict[str, float]
    """Per output: the limit."""
    passed: bool
    """Whether every output stayed within its limit."""


def write_golden(
    path: Path,
    inputs: pa.Table,
    labels: npt.ArrayLike,
    expected: Mapping[str, npt.ArrayLike],
    tolerance: Mapping[str, float],
    precision: str,
) -> None:
    """Write `golden.arrow`; the same rows and answers give the same bytes."""
    outputs = sorted(expected)
    columns = {
        **{name: inputs.column(name).combine_chunks() for name in inputs.column_names},
        LABEL: pa.array(np.asarray(labels, np.int8)),
        **{EXPECTED + name: pa.array(np.asarray(expected[name], np.float32)) for name in outputs},
    }
    about = {"precision": precision, "tolerance": dict(tolerance), "outputs": outputs}
    text = json.dumps(about, sort_keys=True, allow_nan=False).encode()
    table = pa.table(columns).replace_schema_metadata({METADATA: text})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_golden(source: Path | bytes) -> Golden:
    """Read `golden.arrow` from its path, or from bytes whose digest was checked."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    try:
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        table.validate(full=True)
        return _golden(table)
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        raise BundleRefused(f"golden.arrow: {' '.join(str(error).split())}") from None


def replay(
    run: Callable[[Tensors], Mapping[str, npt.NDArray[Any]]], golden: Golden, batch_rows: int = 256
) -> GoldenResult:
    """Run the golden rows and measure how far the answers lie from the expected ones."""
    largest = dict.fromkeys(golden.expected, 0.0)
    for start in range(0, golden.rows, batch_rows):
        part = slice(start, start + batch_rows)
        answers = run({name: values[part] for name, values in golden.inputs.items()})
        for name, expected in golden.expected.items():
            largest[name] = max(largest[name], _distance(answers.get(name), expected[part]))
    passed = all(largest[name] <= golden.tolerance[name] for name in largest)
    return GoldenResult(golden.rows, largest, dict(golden.tolerance), passed)


def _distance(actual: npt.NDArray[Any] | None, expected: npt.NDArray[Any]) -> float:
    """Return the largest difference; a missing, misshapen or non-finite answer is infinitely far.

    NaN compares as neither larger nor smaller, so it would slip through a plain maximum.
    """
    if actual is None or actual.shape != expected.shape:
        return float("inf")
    difference = np.abs(actual.astype(np.float64) - expected)
    return float(np.max(np.where(np.isfinite(difference), difference, np.inf)))


def _golden(table: pa.Table) -> Golden:
    about = parse_document(_Metadata, (table.schema.metadata or {})[METADATA])
    expected_names = {EXPECTED + name for name in about.outputs}
    inputs = [n for n in table.column_names if n != LABEL and n not in expected_names]
    if not inputs or not table.num_rows or len(set(table.column_names)) != table.num_columns:
        raise ValueError("expected rows, inputs, and every column once")
    if set(about.tolerance) != set(about.outputs):
        raise ValueError("expected one tolerance per output")
    return Golden(
        inputs={name: _input(table, name) for name in inputs},
        labels=_filled(table, LABEL, pa.int8()),
        expected={name: _filled(table, EXPECTED + name, pa.float32()) for name in about.outputs},
        tolerance=about.tolerance,
        precision=about.precision,
    )


def _input(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """Turn a column into a tensor, with a missing value as the graph knows it."""
    column = table.column(name)
    if column.type == pa.string():
        return np.asarray(column.fill_null("").to_numpy(zero_copy_only=False), dtype=object)
    if column.type == pa.float32():
        return np.asarray(column.fill_null(float("nan")).to_numpy(), np.float32)
    return _filled(table, name, pa.int64())


def _filled(table: pa.Table, name: str, datatype: pa.DataType) -> npt.NDArray[Any]:
    column = table.column(name)
    if column.type != datatype or column.null_count:
        raise ValueError(f"column {name!r} must be {datatype} without nulls, got {column.type}")
    return np.asarray(column.to_numpy())
