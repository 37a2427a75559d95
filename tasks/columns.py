"""Raw columns: what the model takes, as the contract, a table, a session and torch see them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slipway.bundle.contract import InputTensor
from slipway.bundle.format import Document, canonical_json, parse_document
from slipway.problem import PROBLEMS, Class, Labels, Problem, Target
from slipway.problem.calibration import Calibration
from tasks.answers import Answering, CalibrationFacts
from tasks.target import encode

COLUMNS = "columns.json"
"""Written by export: later stages need no look at the prepared data."""

GOLDEN = "golden.parquet"

Arrays = dict[str, np.ndarray]
"""One array [N] per column, as a session takes them."""

_TYPES = {"category": pa.string(), "number": pa.float32()}


class TargetColumn(Document):
    """The column that is predicted."""

    name: str
    """Its name."""
    problem: str
    """What kind of answer it asks for."""
    classes: list[Class]
    """The values that it may have; none for a number."""
    scale: float
    """What differences of answers are told in: 1 for probabilities, else its standard deviation."""


class Columns(Document):
    """The raw columns that a model takes, and the one that it predicts."""

    inputs: list[InputTensor]
    """Categories first, then numbers, in the order of the core's columns."""
    target: TargetColumn
    """The predicted column."""
    weight: str | None
    """The column that says how much a row counts."""
    calibration: CalibrationFacts
    """What is put behind the core's scores."""

    @property
    def answering(self) -> Answering:
        """Return how scores become answers."""
        return Answering(self.predicted, Calibration(**self.calibration.model_dump()))

    @property
    def problem(self) -> Problem:
        """Return the problem that the target poses."""
        return PROBLEMS[self.target.problem]

    @property
    def predicted(self) -> Target:
        """Return the target as problems take it."""
        return Target(self.target.name, self.target.problem, tuple(self.target.classes))

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
        rows = count_rows(arrays)
        kinds = [[c for c in self.inputs if c.kind == kind] for kind in ("category", "number")]
        categories = np.empty((rows, len(kinds[0])), np.int64)
        numbers = np.empty((rows, len(kinds[1])), np.float32)
        for i, column in enumerate(kinds[0]):
            code = {value: i + 1 for i, value in enumerate(column.categories or [])}
            categories[:, i] = [code.get(value, 0) for value in arrays[column.name]]
        for i, column in enumerate(kinds[1]):
            numbers[:, i] = arrays[column.name]
        return categories, numbers


def from_features(features: Mapping[str, Any], calibration: Calibration) -> Columns:
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
            unknown="one value of its own, learned from values seen too rarely",
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
            missing="known to be missing, as in training rows without it",
            unknown=None,
        )
        for feature in features["numbers"]
    ]
    return Columns(
        inputs=[*categories, *numbers],
        target=TargetColumn(**features["target"], scale=target_scale(features)),
        weight=features["weight"],
        calibration=CalibrationFacts(**asdict(calibration)),
    )


def target_scale(features: Mapping[str, Any]) -> float:
    """Return what differences of answers are told in."""
    return float(features["parts"]["train"].get("std", 1.0)) or 1.0


def write_columns(folder: Path, columns: Columns) -> None:
    """Write columns.json."""
    (folder / COLUMNS).write_bytes(canonical_json(columns.model_dump(mode="json")))


def read_columns(folder: Path) -> Columns:
    """Read columns.json."""
    return parse_document(Columns, (folder / COLUMNS).read_bytes())


def read_golden_rows(golden: Path, columns: Columns) -> tuple[pa.Table, Labels]:
    """Read the golden rows' raw columns, and their labels."""
    rows = pq.read_table(golden / GOLDEN)
    return columns.table(rows), encode(columns.predicted, rows[columns.target.name])


def read_golden_weights(golden: Path, columns: Columns) -> np.ndarray | None:
    """Read how much each golden row counts; None: all alike."""
    if columns.weight is None:
        return None
    column = pq.read_table(golden / GOLDEN, columns=[columns.weight])[columns.weight]
    weights: np.ndarray = column.cast(pa.float64()).to_numpy()
    return weights


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
