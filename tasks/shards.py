"""Prepared rows, mapped into memory and shared by every process that reads them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slipway.problem import Target


@dataclass(frozen=True)
class Rows:
    """Prepared rows, column by column."""

    categories: NDArray[np.int32]
    """Codes [N, C]; 0 is unknown or missing."""
    numbers: NDArray[np.float32]
    """Raw values [N, F]; NaN is missing."""
    labels: NDArray[np.float64]
    """[N]: 0 or 1, the place of a class, or the number itself."""
    units: NDArray[np.int64]
    """[N]: which day, group or key a row belongs to, as a number."""
    weights: NDArray[np.float64] | None = None
    """[N]: how much each row counts; None: all alike."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "Rows":
        """Copy the rows at `indices`, in that order."""
        return Rows(
            categories=self.categories[indices],
            numbers=self.numbers[indices],
            labels=self.labels[indices],
            units=self.units[indices],
            weights=None if self.weights is None else self.weights[indices],
        )


class Shards:
    """The training rows as one sequence over several mapped files."""

    def __init__(self, shards: list[Rows]) -> None:
        self._shards = shards
        self._starts = np.cumsum([0, *map(len, shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, indices: NDArray[np.int64]) -> Rows:
        """Copy the rows at `indices`, in that order, touching only the pages they lie on."""
        owners = np.searchsorted(self._starts, indices, side="right") - 1
        first = self._shards[0]
        taken = Rows(
            categories=np.empty((len(indices), first.categories.shape[1]), np.int32),
            numbers=np.empty((len(indices), first.numbers.shape[1]), np.float32),
            labels=np.empty(len(indices), np.float64),
            units=np.empty(len(indices), np.int64),
            weights=None if first.weights is None else np.empty(len(indices), np.float64),
        )
        for owner in np.unique(owners):
            here = owners == owner
            part = self._shards[owner].take(indices[here] - self._starts[owner])
            taken.categories[here] = part.categories
            taken.numbers[here] = part.numbers
            taken.labels[here] = part.labels
            taken.units[here] = part.units
            if taken.weights is not None:
                taken.weights[here] = part.weights
        return taken


def read_features(prepared: Path) -> dict[str, Any]:
    """Read what `prepare` recorded about the features."""
    features: dict[str, Any] = json.loads((prepared / "features.json").read_text("utf-8"))
    return features


def target_of(features: dict[str, Any]) -> Target:
    """Return the column to be predicted, as `prepare` recorded it."""
    found = features["target"]
    return Target(**{**found, "classes": tuple(found["classes"])})


def read_shards(prepared: Path) -> Shards:
    """Map every shard of the training rows."""
    return Shards([_map(path) for path in sorted(prepared.glob("train-*.arrow"))])


def read_train(prepared: Path) -> Rows:
    """Copy all training rows into memory."""
    shards = read_shards(prepared)
    return shards.take(np.arange(len(shards)))


def read_split(prepared: Path, part: str) -> Rows:
    """Map the rows of a part: "stop", "choose" or "test"."""
    return _map(prepared / f"{part}.arrow")


def _map(path: Path) -> Rows:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return Rows(
        categories=_matrix(table["categories"], np.int32),
        numbers=_matrix(table["numbers"], np.float32),
        labels=table["label"].to_numpy(),
        units=table["unit"].to_numpy(),
        weights=table["weight"].to_numpy() if "weight" in table.column_names else None,
    )


def _matrix(column: pa.ChunkedArray, dtype: type) -> NDArray[Any]:
    """View a fixed-size-list column of one chunk as [N, columns], without a copy."""
    chunk = column.chunk(0)
    width = column.type.list_size
    if not width:
        return np.empty((len(chunk), 0), dtype)
    values: NDArray[Any] = chunk.flatten().to_numpy()
    return values.reshape(len(chunk), width)
