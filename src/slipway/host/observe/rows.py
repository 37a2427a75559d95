"""Lay captured requests out as Parquet, and read them back as they were asked.

Columns: time, request_id, model, version, caller, row, then one per input (`input_NAME`) and
output (`output_NAME`). A tensor with more than one value per row is a list, nested as its
dimensions are. BF16 is stored as the UINT16 that holds its bits; the column's metadata says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slipway.bundle.datatypes import DTYPES, Datatype
from slipway.host.observe.finished import Array

HEAD: Final = ("time", "request_id", "model", "version", "caller", "row")


@dataclass
class Captured:
    """One answered request."""

    time_s: float
    request_id: str
    model: str
    version: str
    caller: str
    rows: int
    batchable: bool
    """Whether the first dimension of every tensor counts the rows; else a request is one row."""
    inputs: Mapping[str, Array | None]
    """None: redacted."""
    outputs: Mapping[str, Array | None]
    """Those that were asked for."""
    datatypes: Mapping[str, Datatype]
    size_bytes: int = 0


def write_rows(captured: Sequence[Captured], file: IO[bytes]) -> None:
    """Write requests to one version of one model as one file."""
    pq.write_table(_table(captured), file, compression="zstd")


def read_capture(path: Path) -> list[Captured]:
    """Read a file back, request by request, ready to be asked again."""
    table = pq.read_table(path)
    starts = [i for i, row in enumerate(table["row"].to_pylist()) if row == 0]
    ends = [*starts[1:], table.num_rows]
    return [_request(table.slice(a, b - a)) for a, b in zip(starts, ends, strict=True)]


def _table(captured: Sequence[Captured]) -> pa.Table:
    counts = [_rows(one) for one in captured]
    times = [datetime.fromtimestamp(one.time_s, UTC) for one in captured]
    columns: dict[str, Any] = {
        "time": _repeated(times, counts, pa.timestamp("us", "UTC")),
        **{
            name: _repeated([getattr(one, name) for one in captured], counts, pa.string())
            for name in ("request_id", "model", "version", "caller")
        },
        "row": pa.array(np.concatenate([np.arange(n) for n in counts]), pa.int32()),
    }
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    for side in ("input", "output"):
        names = dict.fromkeys(n for one in captured for n in getattr(one, f"{side}s"))
        for name in names:
            column = _column(captured, counts, side, name)
            metadata = {
                "datatype": captured[0].datatypes[name],
                "batchable": str(captured[0].batchable),
            }
            columns[f"{side}_{name}"] = column
            fields.append(pa.field(f"{side}_{name}", column.type, metadata=metadata))
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _column(captured: Sequence[Captured], counts: Sequence[int], side: str, name: str) -> Any:
    """Put the tensors of one name below each other; null where one is redacted or not asked."""
    parts = []
    for one, count in zip(captured, counts, strict=True):
        values = getattr(one, f"{side}s").get(name)
        if values is None:
            parts.append(pa.nulls(count))
        else:
            parts.append(_nested(values if one.batchable else values[np.newaxis]))
    known = [part.type for part in parts if not pa.types.is_null(part.type)]
    return pa.concat_arrays([part.cast(known[0]) for part in parts] if known else parts)


def _nested(values: Array) -> Any:
    """Make an Arrow array of the first dimension, whose elements are lists of the others."""
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for axis in range(values.ndim - 1, 0, -1):
        size = values.shape[axis]
        lists = int(np.prod(values.shape[:axis]))
        offsets = np.arange(lists + 1, dtype=np.int32) * size
        array = pa.ListArray.from_arrays(pa.array(offsets), array)
    return array


def _request(table: pa.Table) -> Captured:
    head = table.slice(0, 1).to_pylist()[0]
    fields = {name: table.schema.field(name) for name in table.column_names[len(HEAD) :]}
    kinds: dict[str, Datatype] = {
        name: field.metadata[b"datatype"].decode() for name, field in fields.items()
    }
    batchable = all(field.metadata[b"batchable"] == b"True" for field in fields.values())
    sides: dict[str, dict[str, Array | None]] = {"input": {}, "output": {}}
    for column in fields:
        side, _, name = column.partition("_")
        sides[side][name] = _tensor(table[column].combine_chunks(), kinds[column], batchable)
    return Captured(
        time_s=head["time"].timestamp(),
        request_id=head["request_id"],
        model=head["model"],
        version=head["version"],
        caller=head["caller"],
        rows=table.num_rows,
        batchable=batchable,
        inputs=sides["input"],
        outputs=sides["output"],
        datatypes={column.partition("_")[2]: kind for column, kind in kinds.items()},
    )


def _tensor(column: Any, datatype: Datatype, batchable: bool) -> Array | None:
    """Undo `_nested`; None where the values are not there."""
    if column.null_count == len(column):
        return None
    shape = [len(column)]
    while pa.types.is_list(column.type):
        lists = len(column)
        column = column.flatten()
        shape.append(len(column) // lists if lists else 0)
    values = column.to_numpy(zero_copy_only=False).astype(DTYPES[datatype], copy=False)
    tensor: Array = values.reshape(shape)
    return tensor if batchable else tensor[0]


def _rows(one: Captured) -> int:
    return one.rows if one.batchable else 1


def _repeated(values: Sequence[Any], counts: Sequence[int], kind: Any) -> Any:
    picked = np.repeat(np.arange(len(values)), counts)
    return pa.array(values, kind).take(pa.array(picked))
