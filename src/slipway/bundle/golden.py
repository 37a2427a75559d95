"""The golden set inside a bundle: fixed rows, their labels, and what this model answered.

`golden.arrow` is an Arrow IPC file, uncompressed. The schema's metadata holds the precision and
how far a host's answers may lie from the expected ones, and the tensors' datatypes. The columns
are `input.<name>` and `expected.<name>` as rows.py writes them, and `label` where it is known.
Files of slipway 0.1 may have one plain column per input (null = missing) and per FP32 output
instead; they are read, and no longer written.

A row is what one request carries at least: a row of the first dimension, or, for a model whose
first dimension is not variable, the whole request.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from slipway.bundle.contract import Decision
from slipway.bundle.datatypes import DTYPES, FLOATS, Datatype, as_numbers
from slipway.bundle.format import Document, parse_document
from slipway.bundle.rows import decode, encode, is_ragged, row_of
from slipway.errors import BundleRefused

Tensors = dict[str, npt.NDArray[Any]]

Part = slice | int | npt.NDArray[np.int64]
"""Some rows of one shape, or one whole request."""

LABEL = "label"
INPUT = "input."
EXPECTED = "expected."
METADATA = b"slipway"

_PLAIN: dict[np.dtype[Any], Datatype] = {DTYPES[d]: d for d in ("BYTES", "FP32", "INT64")}
"""What a plain column may hold."""

WEIGHT = "weight"

_LABELS = (pa.int8(), pa.int64(), pa.float64(), pa.string(), pa.bool_())
"""What labels may be."""

REPLAY_ROWS = 256
"""Rows per batch when the golden set is re-run, here as where it was proven."""


class _Metadata(Document):
    precision: str
    tolerance: dict[str, Annotated[float, Field(ge=0)]]
    outputs: list[str] = Field(min_length=1)
    datatypes: dict[str, Datatype] | None = None
    """Of each input and output, if the columns are tensors."""
    batchable: bool = True
    decision: Decision | None = None
    """Which output is decided by another one."""


@dataclass(frozen=True)
class Golden:
    """Golden rows in memory, in the form that a session takes."""

    inputs: Tensors
    """Per input, row by row. Where something may be missing, "" and NaN stand for it."""
    labels: npt.NDArray[np.object_]
    """What came true, in the target's own type; None where nobody said."""
    expected: Tensors
    """Per output, row by row: what this model answered where it was proven."""
    tolerance: dict[str, float]
    """Per output: the largest difference from `expected` that a host may measure; 0 for all that
    is not a floating-point number."""
    precision: str
    """The exported form that answered."""
    datatypes: Mapping[str, Datatype]
    """Of each input and output."""
    batchable: bool = True
    """Whether rows may be run together; if not, a row is a whole request."""
    weights: npt.NDArray[np.float64] | None = None
    """How much each row counts; None: all alike."""
    decision: Decision | None = None
    """Which output is decided by another one, and so may differ where that one is undecided."""

    @property
    def rows(self) -> int:
        """Count the golden rows."""
        return len(self.labels)

    def batches(self, most: int) -> Iterator[tuple[Tensors, Tensors]]:
        """Give inputs and expected answers, run by run; only rows of one shape share a run."""
        for part in self.parts(most):
            yield take(self.inputs, part), take(self.expected, part)

    def parts(self, most: int) -> Iterator[slice | int]:
        """Cut the rows into runs of at most so many rows of one shape, or into whole requests."""
        if not self.batchable:
            yield from range(self.rows)
            return
        ragged = [v for v in (*self.inputs.values(), *self.expected.values()) if is_ragged(v)]
        start = 0
        for _, same in groupby(range(self.rows), lambda i: [v[i].shape for v in ragged]):
            end = start + len(list(same))
            for first in range(start, end, most):
                yield slice(first, min(first + most, end))
            start = end


def take(tensors: Tensors, part: Part) -> Tensors:
    """Return some rows, or one whole request, as a session takes them."""
    return {name: _taken(values, part) for name, values in tensors.items()}


def _taken(values: npt.NDArray[Any], part: Part) -> npt.NDArray[Any]:
    if isinstance(part, int):
        return row_of(values, part)
    if is_ragged(values):
        same_shape: list[npt.NDArray[Any]] = values[part].tolist()
        return np.stack(same_shape)
    return values[part]


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


def write_golden(path: Path, golden: Golden) -> None:
    """Write `golden.arrow`; the same rows and answers give the same bytes."""
    labels = {LABEL: _column(golden.labels)} if has_labels(golden) else {}
    weights = {} if golden.weights is None else {WEIGHT: pa.array(golden.weights, pa.float64())}
    columns = {
        **{INPUT + name: encode(v, golden.datatypes[name]) for name, v in golden.inputs.items()},
        **labels,
        **weights,
        **{
            EXPECTED + name: encode(v, golden.datatypes[name])
            for name, v in golden.expected.items()
        },
    }
    about = {
        "precision": golden.precision,
        "tolerance": golden.tolerance,
        "outputs": list(golden.expected),
        "datatypes": dict(golden.datatypes),
        "batchable": golden.batchable,
        **({"decision": golden.decision.model_dump()} if golden.decision else {}),
    }
    text = json.dumps(about, sort_keys=True, allow_nan=False).encode()
    table = pa.table(columns).replace_schema_metadata({METADATA: text})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def has_labels(golden: Golden) -> bool:
    """Tell whether anything is known of what came true."""
    return any(label is not None for label in golden.labels)


def _column(labels: npt.NDArray[np.object_]) -> pa.Array:
    """Write labels in their own type: whole numbers in 8 bits where they fit, as 0 and 1 do."""
    values = labels.tolist()
    small = all(v is None or (type(v) is int and -128 <= v <= 127) for v in values)
    return pa.array(values, pa.int8() if small else None)


def read_golden(source: Path | bytes) -> Golden:
    """Read `golden.arrow` from its path, or from bytes whose digest was checked."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    try:
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        table.validate(full=True)
        return _golden(table)
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        raise BundleRefused(f"golden.arrow: {' '.join(str(error).split())}") from None


def replay_rows(max_rows: int) -> int:
    """Return the rows per batch of a replay: no more than a request of the model may carry."""
    return min(REPLAY_ROWS, max_rows)


def replay(
    run: Callable[[Tensors], Mapping[str, npt.NDArray[Any]]],
    golden: Golden,
    batch_rows: int = REPLAY_ROWS,
) -> GoldenResult:
    """Run the golden rows and measure how far the answers lie from the expected ones."""
    largest = dict.fromkeys(golden.expected, 0.0)
    for inputs, expected in golden.batches(batch_rows):
        answers = run(inputs)
        for name, wanted in expected.items():
            answer = answers.get(name)
            if golden.decision and name == golden.decision.output:
                answer = _where_decided(golden, answer, expected)
            found = distance(answer, wanted, golden.datatypes[name])
            largest[name] = max(largest[name], found)
    passed = all(largest[name] <= golden.tolerance[name] for name in largest)
    return GoldenResult(golden.rows, largest, dict(golden.tolerance), passed)


def _where_decided(
    golden: Golden, answer: npt.NDArray[Any] | None, expected: Tensors
) -> npt.NDArray[Any] | None:
    """Let a decision pass where what it is taken from may fall on either side, as it tolerates."""
    decision, wanted = golden.decision, expected
    if answer is None or decision is None or answer.shape != wanted[decision.output].shape:
        return answer
    by, may = wanted[decision.by].astype(np.float64), golden.tolerance[decision.by]
    if decision.at is not None:
        open_ = np.abs(by - decision.at) <= may
    else:
        first_two = np.sort(by, axis=1)[:, -2:]
        open_ = first_two[:, 1] - first_two[:, 0] <= 2 * may
    return np.where(open_, wanted[decision.output], answer)


def distance(
    actual: npt.NDArray[Any] | None, expected: npt.NDArray[Any], datatype: Datatype
) -> float:
    """Return the largest difference; a missing, misshapen or non-finite answer is infinitely far.

    NaN compares as neither larger nor smaller, so it would slip through a plain maximum. Text,
    truth values and whole numbers are equal or infinitely far: a class is not nearly another.
    """
    if actual is None or actual.shape != expected.shape:
        return float("inf")
    if datatype not in FLOATS:
        return 0.0 if np.array_equal(actual, expected) else float("inf")
    wide = [as_numbers(values, datatype).astype(np.float64) for values in (actual, expected)]
    with np.errstate(invalid="ignore"):  # inf - inf: not finite, so infinitely far
        difference = np.abs(wide[0] - wide[1])
    return float(np.max(np.where(np.isfinite(difference), difference, np.inf), initial=0.0))


def _golden(table: pa.Table) -> Golden:
    about = parse_document(_Metadata, (table.schema.metadata or {})[METADATA])
    if not table.num_rows or len(set(table.column_names)) != table.num_columns:
        raise ValueError("expected rows, inputs, and every column once")
    if set(about.tolerance) != set(about.outputs):
        raise ValueError("expected one tolerance per output")
    if about.datatypes is None:
        return _from_columns(table, about)
    return _from_tensors(table, about, about.datatypes)


def _from_columns(table: pa.Table, about: _Metadata) -> Golden:
    expected_names = {EXPECTED + name for name in about.outputs}
    inputs = [n for n in table.column_names if n != LABEL and n not in expected_names]
    if not inputs:
        raise ValueError("expected rows, inputs, and every column once")
    tensors = {name: _input(table, name) for name in inputs}
    return Golden(
        inputs=tensors,
        labels=_labels(table),
        expected={name: _filled(table, EXPECTED + name, pa.float32()) for name in about.outputs},
        tolerance=about.tolerance,
        precision=about.precision,
        datatypes={n: _PLAIN[v.dtype] for n, v in tensors.items()}
        | dict.fromkeys(about.outputs, "FP32"),
    )


def _from_tensors(table: pa.Table, about: _Metadata, datatypes: dict[str, Datatype]) -> Golden:
    inputs = [name for name in datatypes if name not in about.outputs]
    columns = {INPUT + name for name in inputs} | {EXPECTED + name for name in about.outputs}
    if not inputs or set(table.column_names) - {LABEL, WEIGHT} != columns:
        raise ValueError("expected one column per input and output that has a datatype")
    if about.decision and not {about.decision.output, about.decision.by} <= set(about.outputs):
        raise ValueError("its decision names an output that there is not")
    weighed = WEIGHT in table.column_names
    return Golden(
        inputs={name: decode(table.column(INPUT + name), datatypes[name]) for name in inputs},
        labels=_labels(table),
        expected={n: decode(table.column(EXPECTED + n), datatypes[n]) for n in about.outputs},
        tolerance=about.tolerance,
        precision=about.precision,
        datatypes=datatypes,
        batchable=about.batchable,
        weights=_filled(table, WEIGHT, pa.float64()) if weighed else None,
        decision=about.decision,
    )


def _labels(table: pa.Table) -> npt.NDArray[np.object_]:
    """Read labels in their own type; those of files before that had -1 for what nobody said."""
    found = np.full(table.num_rows, None, object)
    if LABEL in table.column_names:
        column = table.column(LABEL)
        if column.type not in _LABELS:
            raise ValueError(f"column {LABEL!r} must be a class or a number, got {column.type}")
        old = column.type == pa.int8()
        found[:] = [None if old and v == -1 else v for v in column.to_pylist()]
    return found


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
