"""Trees as arrays, and their exact arithmetic: the reference for every graph made of them.

A row is expanded to float32 features first: the raw numbers, then one feature per category split
that says whether the row's code is outside the split's set. So every split of every tree asks
`feature <= threshold`, and a graph asks the same in the same numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.integer[Any]]
Numbers = NDArray[np.float32]

LEAF = -1
"""The feature of a node that asks nothing."""

INSIDE = 0.5
"""The threshold of a category split: 0 is inside its set, and goes left; 1 is outside."""

BATCH_ROWS = 4096
"""Rows that are expanded at once: a feature per split takes memory."""


@dataclass(frozen=True)
class Nodes:
    """The nodes of all trees [M], each tree's root first; children are positions among them.

    Thresholds are float32, as the features are: nothing is lost, since `x <= t` equals
    `x <= the largest float32 not above t` for every float32 x.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]


@dataclass(frozen=True)
class Forest:
    """Trees whose leaves add up to one score per output, from `base` on.

    `roots` [T] are the trees' first nodes, `outputs` [T] whose score they belong to. `outside`
    holds per category column uint8 [values, splits]: 1 where a code is outside a split's set. Its
    last row is for the codes that no tree has seen: outside of every set.
    """

    nodes: Nodes
    roots: NDArray[np.int32]
    outputs: NDArray[np.int32]
    outside: tuple[NDArray[np.uint8], ...]
    numbers: int
    base: NDArray[np.float64]

    def expand(self, categories: Codes, numbers: Numbers) -> NDArray[np.float32]:
        """Return the features that the splits ask for, [N, numbers + splits]."""
        parts = [
            table[known_codes(categories[:, i], len(table))].astype(np.float32)
            for i, table in enumerate(self.outside)
        ]
        return np.hstack([numbers, *parts], dtype=np.float32)

    def find_leaves(self, categories: Codes, numbers: Numbers) -> NDArray[np.int32]:
        """Return the node that each row ends in, per tree: [N, T]."""
        found = np.empty((len(numbers), len(self.roots)), np.int32)
        for part in _batches(len(numbers)):
            features = self.expand(categories[part], numbers[part])
            for tree, root in enumerate(self.roots):
                found[part, tree] = self._descend(features, root)
        return found

    def sum_scores(self, categories: Codes, numbers: Numbers) -> NDArray[np.float64]:
        """Return scores [N, K]: leaves are added tree by tree, in float64, and the base last."""
        scores = np.zeros((len(numbers), len(self.base)))
        for part in _batches(len(numbers)):
            features = self.expand(categories[part], numbers[part])
            for root, output in zip(self.roots, self.outputs, strict=True):
                scores[part, output] += self.nodes.value[self._descend(features, root)]
        return scores + self.base

    def _descend(self, features: NDArray[np.float32], root: np.int32) -> NDArray[np.int32]:
        """Walk one tree with all rows, level by level, until each stands on a leaf."""
        nodes = self.nodes
        at = np.full(len(features), root, np.int32)
        walking = np.arange(len(features))
        while len(walking := walking[nodes.feature[at[walking]] != LEAF]):
            here = at[walking]
            x = features[walking, nodes.feature[here]]
            goes_left = (x <= nodes.threshold[here]) | (np.isnan(x) & nodes.missing_left[here])
            at[walking] = np.where(goes_left, nodes.left[here], nodes.right[here])
        return at


def known_codes(codes: Codes, rows: int) -> NDArray[np.int64]:
    """Return which row of a table of so many rows is a code's; unseen codes share the last."""
    unseen = (codes < 0) | (codes >= rows)
    return np.where(unseen, rows - 1, codes).astype(np.int64)


def _batches(rows: int) -> Iterator[slice]:
    return (slice(start, start + BATCH_ROWS) for start in range(0, rows, BATCH_ROWS))
