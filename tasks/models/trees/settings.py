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

    row_share: float
    """The share of the rows that each round looks at, drawn anew; 1 for all."""

    column_share: float
    """The share of the columns that each tree may split by, drawn anew; 1 for all."""

    patience: int
    """Rounds without a better loss on the stop rows before the boosting ends."""

    seed: int
    """What rows and columns are drawn by, and the rows that tell which values to split at."""

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
