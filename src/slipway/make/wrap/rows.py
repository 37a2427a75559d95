"""Read golden rows from whatever file they come in, as arrays that the graph takes.

    .npz                      arrays by input name, the first axis counts the rows
    .parquet .arrow .csv      columns by input name: values, or lists of lists of them
    .json .jsonl              requests of the Open Inference Protocol, one document or one a line

Every problem of every input is gathered before any is told.
"""

import difflib
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from slipway.bundle.datatypes import DTYPES, FLOATS, Datatype, bf16_to_float, float_to_bf16
from slipway.bundle.golden import Tensors
from slipway.bundle.rows import Array, stack
from slipway.errors import ConfigError
from slipway.problem import Target

ROWS_MAX: Final = 10_000
"""Every host runs them all before it serves."""


@dataclass(frozen=True)
class InputSpec:
    """One input as the graph has it."""

    name: str
    datatype: Datatype
    shape: list[int]
    """-1: any length; the first one counts the rows where rows can be run together."""


@dataclass(frozen=True)
class GoldenRows:
    """The golden rows: per input along the first axis, or apart where they differ in shape."""

    inputs: Tensors
    labels: Array

    @property
    def rows(self) -> int:
        """Count the rows."""
        return len(self.labels)


@dataclass(frozen=True)
class _Source:
    """What a file holds, before it is held to the graph."""

    columns: dict[str, Sequence[Any]]
    """By name: a value per row, or a whole request's tensor per request."""
    requests: bool = False
    """Whether a value is a request's tensor, which may have several rows."""
    cells: bool = False
    """Whether values are cells of a table, which may be flat where the tensor is not."""


def read_rows(
    path: Path,
    wanted: Sequence[InputSpec],
    batchable: bool,
    labels: str | None = None,
    target: Target | None = None,
) -> GoldenRows:
    """Read the rows of a file; raise ConfigError with every problem found in it."""
    try:
        source = _reader(path)(path)
    except (OSError, ValueError, KeyError, pa.ArrowException, zipfile.BadZipFile) as error:
        raise ConfigError(str(path), [" ".join(str(error).split())]) from None
    problems: list[str] = []
    inputs: Tensors = {}
    for tensor in wanted:
        try:
            inputs[tensor.name] = stack(_rows(source, tensor, batchable))
        except ValueError as error:
            problems.append(f"input {tensor.name!r}: {error}")
    counts = {name: len(rows) for name, rows in inputs.items()}
    if len(set(counts.values())) > 1:
        problems.append(f"inputs have different numbers of rows: {counts}")
    rows = max(counts.values(), default=0)
    if rows > ROWS_MAX:
        problems.append(f"{rows:,} rows: every host runs them before it serves; give {ROWS_MAX:,}")
    known = np.full(rows, None, object)
    try:
        known = known if labels is None else _labels(source, labels, rows, target)
    except ValueError as error:
        problems.append(f"label {labels!r}: {error}")
    if problems:
        raise ConfigError(str(path), problems)
    return GoldenRows(inputs, known)


def _reader(path: Path) -> Callable[[Path], _Source]:
    readers = {
        ".npz": _read_npz,
        ".parquet": _read_table,
        ".arrow": _read_table,
        ".csv": _read_table,
        ".json": _read_requests,
        ".jsonl": _read_requests,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(f"unknown kind of file; known: {', '.join(readers)}")
    return readers[path.suffix.lower()]


def _read_npz(path: Path) -> _Source:
    with np.load(path, allow_pickle=False) as arrays:
        try:
            return _Source({name: arrays[name] for name in arrays.files})
        except ValueError as error:
            if "pickle" not in str(error):
                raise
            raise ValueError(
                "holds arrays of Python objects, which are never unpickled; save text as"
                " np.array([...], dtype=str)"
            ) from None


def _read_table(path: Path) -> _Source:
    """Read a table; cells are Python's values, so that lists may differ in length."""
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
    elif path.suffix.lower() == ".csv":
        import pyarrow.csv

        table = pyarrow.csv.read_csv(path)
    else:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
    return _Source({n: table.column(n).to_pylist() for n in table.column_names}, cells=True)


def _read_requests(path: Path) -> _Source:
    text = path.read_text("utf-8")
    lines = text.splitlines() if path.suffix.lower() == ".jsonl" else [text]
    columns: dict[str, list[Any]] = {}
    count = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            tensors = _request(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"line {number} is no inference request: {error!r}") from None
        count += 1
        for name, values in tensors.items():
            columns.setdefault(name, []).append(values)
    if short := [name for name, values in columns.items() if len(values) != count]:
        raise ValueError(f"not every request has the inputs {', '.join(map(repr, short))}")
    return _Source(dict(columns), requests=True)


def _request(document: Any) -> dict[str, Array]:
    return {
        item["name"]: np.array(item["data"], object).reshape(item["shape"])
        for item in document["inputs"]
    }


def _rows(source: _Source, tensor: InputSpec, batchable: bool) -> list[Array]:
    """Return one array per row, in the graph's datatype and shape."""
    if tensor.name not in source.columns:
        near = difflib.get_close_matches(tensor.name, source.columns, 1)
        there = f"did you mean {near[0]!r}?" if near else f"there are {sorted(source.columns)}"
        raise ValueError(f"is not in the file; {there}")
    values = source.columns[tensor.name]
    arrays = [_cast(value, tensor.datatype) for value in values]
    if not arrays:
        raise ValueError("has no rows")
    if source.requests and batchable:
        arrays = [row for array in arrays for row in np.atleast_1d(array)]
    wanted = tensor.shape[1:] if batchable else tensor.shape
    try:
        return [_fit(array, wanted, source, batchable) for array in arrays]
    except ValueError as error:
        whole = "; some first dimension is fixed, so each row of the file is a whole request"
        raise ValueError(f"{error}{'' if batchable else whole}") from None


def _fit(array: Array, shape: list[int], source: _Source, batchable: bool) -> Array:
    """Give a row the graph's rank where that leaves no doubt, or refuse it."""
    array = np.asarray(array)
    one = shape[:1] == [1] or (shape[:1] == [-1] and not batchable)
    if one and array.ndim == len(shape) - 1 and not source.requests:
        array = array[None]  # a request of one row: the 1 need not be spelled out
    fixed = -1 not in shape
    if source.cells and fixed and array.shape != tuple(shape) and array.size == math.prod(shape):
        array = array.reshape(shape)
    same = len(array.shape) == len(shape)
    if not same or any(d not in (-1, n) for d, n in zip(shape, array.shape, strict=True)):
        raise ValueError(f"a row must have the shape {shape} (-1: any), got {list(array.shape)}")
    return array


def _cast(value: Any, datatype: Datatype) -> Array:
    """Return an array of the datatype; refuse what it would change or cannot hold."""
    array = np.asarray(value)
    if array.dtype.kind == "V" and array.dtype.itemsize == 2 and datatype == "BF16":
        return array.view(np.uint16)  # ml_dtypes' bfloat16, as numpy saves it
    if array.dtype == object:
        array = np.array(array.tolist()) if array.size else array
    kind = array.dtype.kind
    if datatype == "BYTES":
        return _text(array)
    if datatype == "BOOL":
        return _checked(array, kind == "b", "true or false")
    if datatype == "BF16":
        array = array if array.dtype == np.uint16 else float_to_bf16(_floats(array))
        _finite(bf16_to_float(array))
        return array
    if datatype in FLOATS:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused
            return _finite(_floats(array).astype(DTYPES[datatype]))
    _checked(array, kind in "iu" or array.size == 0, "whole numbers")
    limits = np.iinfo(DTYPES[datatype])
    if array.size and not (limits.min <= int(array.min()) and int(array.max()) <= limits.max):
        raise ValueError(f"a value does not fit {datatype}")
    return array.astype(DTYPES[datatype])


def _text(array: Array) -> Array:
    _checked(array, array.dtype.kind in "US" or array.size == 0, "text")
    flat = [v.decode() if isinstance(v, bytes) else str(v) for v in array.reshape(-1).tolist()]
    text = np.empty(array.size, object)
    text[:] = flat
    return text.reshape(array.shape)


def _floats(array: Array) -> Array:
    return _checked(array, array.dtype.kind in "fiu" or array.size == 0, "numbers")


def _finite(array: Array) -> Array:
    if not np.isfinite(array).all():
        raise ValueError("holds a value that is not finite, or too large for the datatype")
    return array


def _checked(array: Array, good: bool, words: str) -> Array:
    if not good:
        found = "null, or values of several types" if array.dtype == object else array.dtype
        raise ValueError(f"must be {words}, got {found}")
    return array


def _labels(source: _Source, name: str, rows: int, target: Target | None) -> Array:
    """Return what came true, in its own type: one of a problem's classes, or a number."""
    if name not in source.columns or source.requests:
        raise ValueError("there is no such column" if not source.requests else "requests have none")
    values = np.asarray(source.columns[name])
    if values.shape != (rows,):
        raise ValueError("must be one value for every row")
    found = np.empty(rows, object)
    found[:] = values.tolist()
    if target is None:
        if values.dtype.kind not in "iub" or not set(found) <= {0, 1}:
            raise ValueError("must be 0 or 1 for every row; --problem names other targets")
        found[:] = [int(value) for value in found]
    elif target.classes:
        if (target.encode(found) < 0).any():
            strangers = {
                repr(v) for v, at in zip(found, target.encode(found), strict=True) if at < 0
            }
            raise ValueError(
                f"must be one of {', '.join(map(str, target.classes))}, found"
                f" {', '.join(sorted(strangers)[:3]).replace(chr(39), '')}"
            )
    elif values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError("must be a finite number for every row")
    return found
