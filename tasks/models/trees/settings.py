"""What boosted trees are fitted with: settings, rows, and who is told of the progress."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.models.trees.forest import Codes, Numbers

PROBLEMS = ("binary", "multiclass", "regression")

Progress = Callable[[int, float | None], None]
"""Told after each round: how many were made, and the loss on the rows that end the boosting."""


@dataclass(frozen=True)
class Settings:
    """What a forest is fitted with; each changes the bytes, but `threads`."""

    iterations: int
    """Rounds of boosting, at most; a round is one tree per output."""

    learning_rate: float
    """The share of what a tree finds that is added."""

    leaves: int
    """Leaves of a tree, at most."""

    min_leaf_rows: int
    """Rows that a leaf needs."""

    l2: float
    """L2 penalty on a leaf's value."""

    patience: int
    """Rounds without a better loss on the stop rows before the boosting ends."""

    seed: int
    """What LightGBM samples rows by, to choose the values it may split at."""

    threads: int = 1
    """Processors to fit with."""


@dataclass(frozen=True)
class LabelledRows:
    """Codes [N, C], raw numbers float32 [N, F], labels [N] and, if they differ, weights [N]."""

    categories: Codes
    numbers: Numbers
    labels: NDArray[np.floating[Any]]
    weights: NDArray[np.floating[Any]] | None = None

    def __len__(self) -> int:
        return len(self.labels)
