"""LightGBM's text of a model, read into arrays: its trees, and nothing of its parameters.

What a split decides is read from LightGBM's own prediction (include/LightGBM/tree.h): numbers are
compared as float64, values of no more than 1e-35 count as zero, a missing number goes where
the split sends it, or counts as zero where no number was missing in training, and a category goes
left if the split's set of bits has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from slipway.errors import SlipwayError
from tasks.models.trees.forest import INSIDE, LEAF, Forest, Nodes

CATEGORICAL, DEFAULT_LEFT = 1, 2
"""Bits of a split's `decision_type`; the two after them are the kind of missing values."""

NO_MISSING, ZERO_IS_MISSING = 0, 1
"""Kinds of missing values. The third, 2, is NaN."""

ZERO = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold: it reads numbers up to this far from zero as zero."""


@dataclass(frozen=True)
class _Tree:
    """A tree as it is written: splits [S], leaves [S + 1], where child ~i is leaf i.

    `sets` are the codes of its category splits, one byte per code, and the threshold of such a
    split is the number of its set.
    """

    column: NDArray[np.int64]
    threshold: NDArray[np.float64]
    kind: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaves: NDArray[np.float64]
    sets: tuple[bytes, ...]

    def set_of(self, split: int) -> bytes:
        """Return the set of a category split."""
        return self.sets[int(self.threshold[split])]

    def category_splits(self) -> list[int]:
        """Return which splits ask for a category."""
        return np.flatnonzero(self.kind & CATEGORICAL).tolist()


def read_forest(text: str, columns: int, numbers: int, outputs: int) -> Forest:
    """Read a model's text: category columns come first in it, then the numbers."""
    trees = [_read_tree(block) for block in text.split("\nend of trees")[0].split("\nTree=")[1:]]
    sets = _collect_sets(trees, columns)
    starts = np.cumsum([numbers, *map(len, sets)])
    places = {
        (column, inside): int(starts[column]) + i
        for column in range(columns)
        for i, inside in enumerate(sets[column])
    }
    sizes = [2 * len(tree.leaves) - 1 for tree in trees]
    roots = np.cumsum([0, *sizes], dtype=np.int32)[:-1]
    return Forest(
        nodes=_join(
            [
                _place(tree, int(root), columns, places)
                for tree, root in zip(trees, roots, strict=True)
            ]
        ),
        roots=roots,
        outputs=np.arange(len(trees), dtype=np.int32) % np.int32(outputs),
        outside=tuple(map(_table, sets)),
        numbers=numbers,
        base=np.zeros(outputs),
    )


def round_thresholds(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the float32 that split float32 numbers as LightGBM's float64 thresholds do."""
    # -1e-35 itself counts as zero, so it is not below a threshold of -1e-35
    around_zero = np.where(thresholds < 0, np.nextafter(np.float32(-ZERO), -np.inf), ZERO)
    exact = np.where(np.abs(thresholds) <= ZERO, around_zero, thresholds)
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    rounded: NDArray[np.float32] = np.where(nearest.astype(np.float64) > exact, below, nearest)
    return rounded


def _read_tree(block: str) -> _Tree:
    """Read the fields of one tree; a tree without a split has none but its leaf."""
    found = dict(line.split("=", 1) for line in block.splitlines()[1:] if "=" in line)
    read = {name: np.array(text.split()) for name, text in found.items()}
    splits = {name: read.get(name, np.array([])) for name in _SPLIT_FIELDS}
    words = read.get("cat_threshold", np.array([])).astype("<u4")
    bounds = read.get("cat_boundaries", np.array([0])).astype(np.int64)
    return _Tree(
        column=splits["split_feature"].astype(np.int64),
        threshold=splits["threshold"].astype(np.float64),
        kind=splits["decision_type"].astype(np.int64),
        left=splits["left_child"].astype(np.int64),
        right=splits["right_child"].astype(np.int64),
        leaves=read["leaf_value"].astype(np.float64),
        sets=tuple(_read_set(part) for part in np.split(words, bounds[1:-1])),
    )


_SPLIT_FIELDS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")


def _read_set(words: NDArray[np.uint32]) -> bytes:
    """Return the codes of a set as one byte per code: 1 is inside."""
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return np.trim_zeros(bits, "b").tobytes()


def _collect_sets(trees: Sequence[_Tree], columns: int) -> list[list[bytes]]:
    """Return each column's sets, every one once and in an order of their own."""
    sets: list[set[bytes]] = [set() for _ in range(columns)]
    for tree in trees:
        for split in tree.category_splits():
            sets[tree.column[split]].add(tree.set_of(split))
    return [sorted(each) for each in sets]


def _table(sets: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return uint8 [codes + 1, sets]: 1 where a code is outside; its last row is all outside."""
    rows = max(map(len, sets), default=0) + 1
    table = np.ones((rows, len(sets)), np.uint8)
    for i, inside in enumerate(sets):
        table[: len(inside), i] -= np.frombuffer(inside, np.uint8)
    return table


def _place(tree: _Tree, root: int, columns: int, places: dict[tuple[int, bytes], int]) -> Nodes:
    """Put a tree's nodes from `root` on: its splits, then its leaves."""
    leaves = len(tree.leaves)
    missing = (tree.kind >> 2) & 3
    if (missing == ZERO_IS_MISSING).any():
        raise SlipwayError("a tree takes zeros for missing values; fit with zero_as_missing=false")
    feature = tree.column - columns
    threshold = round_thresholds(tree.threshold)
    goes_left = np.where(
        missing == NO_MISSING, tree.threshold >= 0, (tree.kind & DEFAULT_LEFT).astype(bool)
    )
    for split in tree.category_splits():
        feature[split] = places[int(tree.column[split]), tree.set_of(split)]
        threshold[split], goes_left[split] = INSIDE, False
    no_child = np.full(leaves, LEAF)
    children = [root + np.where(to >= 0, to, leaves - 1 + ~to) for to in (tree.left, tree.right)]
    return Nodes(
        feature=np.append(feature, no_child).astype(np.int32),
        threshold=np.append(threshold, np.zeros(leaves, np.float32)),
        missing_left=np.append(goes_left, np.zeros(leaves, np.bool_)),
        left=np.append(children[0], no_child).astype(np.int32),
        right=np.append(children[1], no_child).astype(np.int32),
        value=np.append(np.zeros(leaves - 1), tree.leaves),
    )


def _join(trees: Sequence[Nodes]) -> Nodes:
    names = [each.name for each in fields(Nodes)]
    return Nodes(*(np.concatenate([getattr(tree, name) for tree in trees]) for name in names))
