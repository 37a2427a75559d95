"""Prepared rows, mapped into memory and shared by every process that reads them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """Codes int32 [N, C] (0: unknown), raw numbers float32 [N, F] (NaN: missing), labels [N]."""

    categories: NDArray[np.int32]
    numbers: NDArray[np.float32]
    labels: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "Rows":
        """Copy the rows at `indices`, in that order."""
        return Rows(self.categories[indices], self.numbers[indices], self.labels[indices])


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
            np.empty((len(indices), first.categories.shape[1]), np.int32),
            np.empty((len(indices), first.numbers.shape[1]), np.float32),
            np.empty(len(indices), np.float32),
        )
        for owner in np.unique(owners):
            here = owners == owner
            part = self._shards[owner].take(indices[here] - self._starts[owner])
            taken.categories[here] = part.categories
            taken.numbers[here] = part.numbers
            taken.labels[here] = part.labels
        return taken


def read_features(prepared: Path) -> dict[str, Any]:
    """Read what `prepare` recorded about the features."""
    features: dict[str, Any] = json.loads((prepared / "features.json").read_text("utf-8"))
    return features


def read_shards(prepared: Path) -> Shards:
    """Map every shard of the training rows."""
    return Shards([_map(path) for path in sorted(prepared.glob("train-*.arrow"))])


def read_train(prepared: Path) -> Rows:
    """Copy all training rows into memory."""
    shards = read_shards(prepared)
    return shards.take(np.arange(len(shards)))


def read_split(prepared: Path, split: str) -> Rows:
    """Map the "validation" or the "test" rows."""
    return _map(prepared / f"{split}.arrow")


def _map(path: Path) -> Rows:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return Rows(_matrix(table["categories"]), _matrix(table["numbers"]), table["label"].to_numpy())


def _matrix(column: pa.ChunkedArray) -> NDArray[Any]:
    """View a fixed-size-list column of one chunk as [N, columns], without a copy."""
    chunk = column.chunk(0)
    values: NDArray[Any] = chunk.flatten().to_numpy()
    return values.reshape(len(chunk), -1)
