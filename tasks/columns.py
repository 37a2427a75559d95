"""Raw columns: what the model takes, as the contract, a table, a session and torch see them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slipway.bundle.contract import InputTensor
from slipway.bundle.format import Document, canonical_json, parse_document

COLUMNS = "columns.json"
"""Written by export: later stages need no look at the prepared data."""

GOLDEN = "golden.parquet"

Arrays = dict[str, np.ndarray]
"""One array [N] per column, as a session takes them."""

_TYPES = {"category": pa.string(), "number": pa.float32()}


class Columns(Document):
    """The raw columns that a model takes, and the one that it predicts."""

    inputs: list[InputTensor]
    """Categories first, then numbers, in the order of the core's columns."""
    label: str
    """The predicted column."""
    problem: str
    """What kind of answer it asks for."""

    def table(self, rows: pa.Table) -> pa.Table:
        """Pick the model's columns: strings for categories, float32 for numbers."""
        return pa.table(
            {i.name: rows[i.name].cast(_TYPES[i.kind], safe=False) for i in self.inputs}
        )

    def blank(self) -> pa.Table:
        """Make one row in which everything is missing."""
        return pa.table({i.name: pa.nulls(1, _TYPES[i.kind]) for i in self.inputs})

    def edges(self) -> pa.Table:
        """Make the two most extreme rows within the contract: all numbers lowest, all highest."""
        table = {}
        for column in self.inputs:
            last = column.categories[-1] if column.categories else None
            ends = column.range or (None, last)
            table[column.name] = pa.array(ends, _TYPES[column.kind])
        return pa.table(table)

    def codes(self, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Encode as training did: codes int64 [N, C] and numbers float32 [N, F].

        Written apart from the graph's own encoder on purpose: it is what that is compared with.
        """
        categories, numbers = [], []
        for column in self.inputs:
            if column.kind == "number":
                numbers.append(arrays[column.name])
            else:
                code = {value: i + 1 for i, value in enumerate(column.categories or [])}
                categories.append([code.get(value, 0) for value in arrays[column.name]])
        return (
            np.array(categories, dtype=np.int64).T.copy(),
            np.array(numbers, dtype=np.float32).T.copy(),
        )


def from_features(features: Mapping[str, Any]) -> Columns:
    """Read what prepare wrote down about its features."""
    categories = [
        InputTensor(
            name=feature["name"],
            datatype="BYTES",
            shape=[-1],
            kind="category",
            meaning=feature["meaning"],
            categories=feature["vocabulary"],
            range=None,
            missing="treated as unknown",
            unknown="an embedding of its own, learned for values seen too rarely",
        )
        for feature in features["categories"]
    ]
    numbers = [
        InputTensor(
            name=feature["name"],
            datatype="FP32",
            shape=[-1],
            kind="number",
            meaning=feature["meaning"],
            categories=None,
            range=(feature["min"], feature["max"]),
            missing="replaced by the training mean and flagged",
            unknown=None,
        )
        for feature in features["numbers"]
    ]
    return Columns(
        inputs=[*categories, *numbers], label=features["label"], problem=features["problem"]
    )


def write_columns(folder: Path, columns: Columns) -> None:
    """Write columns.json."""
    (folder / COLUMNS).write_bytes(canonical_json(columns.model_dump(mode="json")))


def read_columns(folder: Path) -> Columns:
    """Read columns.json."""
    return parse_document(Columns, (folder / COLUMNS).read_bytes())


def read_golden_rows(golden: Path, columns: Columns) -> tuple[pa.Table, np.ndarray]:
    """Read the golden rows' raw columns, and their labels."""
    rows = pq.read_table(golden / GOLDEN)
    return columns.table(rows), rows[columns.label].to_numpy().astype(np.int8)


def as_arrays(table: pa.Table) -> Arrays:
    """Turn a table into what a session takes: "" and NaN stand for missing."""
    return {
        name: np.array([value or "" for value in column.to_pylist()], dtype=object)
        if pa.types.is_string(column.type)
        else column.fill_null(float("nan")).to_numpy().astype(np.float32)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def take(arrays: Mapping[str, np.ndarray], rows: slice | Sequence[int] | np.ndarray) -> Arrays:
    """Pick rows of every column."""
    return {name: array[rows] for name, array in arrays.items()}


def count_rows(arrays: Mapping[str, np.ndarray]) -> int:
    """Count the rows that all columns have."""
    return len(next(iter(arrays.values())))
