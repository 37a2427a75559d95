"""Ask a model of trees at both sides of every split, and count what the graph answers otherwise.

    python benchmarks/exact_trees.py [--prepared DIR] [--rows N] [--trees N] [--leaves N]

Fits trees on prepared rows. Then takes each split of each tree in turn, real rows that reach it,
and puts there what splits go wrong at: the threshold, the float32 next to it on each side, missing,
infinite and tiny numbers; codes inside and outside the split's set, and unseen ones. Counts rows
where any tree of the ONNX graph ends in another leaf than LightGBM's own, and how far its
sums are from LightGBM's float64 sums, per batch size and number of threads; then times answers.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
from lightgbm import Booster
from numpy.typing import NDArray
from onnx import ModelProto

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tasks import graph, shards  # noqa: E402  the repository must be importable first
from tasks.models.trees.boosted import Boosted, fit  # noqa: E402
from tasks.models.trees.boosting import boost, side_by_side  # noqa: E402
from tasks.models.trees.forest import LEAF, Forest  # noqa: E402
from tasks.models.trees.graph import make_core  # noqa: E402
from tasks.models.trees.settings import LabelledRows, Settings  # noqa: E402

BATCHES, THREADS = (1, 7, 256), (1, 2)
CHUNK_ROWS = 50_000
TINY = np.finfo(np.float32).smallest_subnormal
LARGEST = np.finfo(np.float32).max
ODD = np.array(
    [np.nan, np.inf, -np.inf, 0, -0.0, TINY, -TINY, 1e-35, -1e-35, LARGEST, -LARGEST], np.float32
)


@dataclass(frozen=True)
class Asked:
    """Rows to be answered."""

    categories: NDArray[np.int64]
    numbers: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, part: slice) -> "Asked":
        return Asked(self.categories[part], self.numbers[part])

    def __iter__(self) -> Iterator[slice]:
        return iter(slice(at, at + CHUNK_ROWS) for at in range(0, len(self), CHUNK_ROWS))


def main() -> None:
    """Fit, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepared", type=Path, default=REPOSITORY / "data/flights/prepared")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--trees", type=int, default=150)
    parser.add_argument("--leaves", type=int, default=31)
    options = parser.parse_args()
    settings = Settings(
        iterations=options.trees,
        learning_rate=0.1,
        leaves=options.leaves,
        min_leaf_rows=20,
        l2=0.0,
        row_share=1.0,
        column_share=1.0,
        patience=50,
        seed=7,
    )
    rows = shards.read_train(options.prepared)
    train = LabelledRows(rows.categories, rows.numbers, rows.labels)
    began = time.perf_counter()
    booster = boost(settings, ("binary", 1), train).booster
    print(f"fitted on {len(train):,} rows in {time.perf_counter() - began:.1f} s, 1 thread")
    model = fit(settings, "binary", 2, train)
    asked = ask_around(model.forest, train, options.rows)
    splits = (model.forest.nodes.feature != LEAF).sum()
    print(f"{len(model.forest.roots)} trees, {splits:,} splits; rows asked: {len(asked):,}")
    compare(model, booster, asked)
    time_answers(model, asked)


def ask_around(forest: Forest, train: LabelledRows, rows: int) -> Asked:
    """Take real rows that reach each split, and move each to the split's edges."""
    rng = np.random.default_rng(7)
    some = rng.choice(len(train), min(len(train), 50_000), replace=False)
    categories, numbers = train.categories[some].astype(np.int64), train.numbers[some].copy()
    reached = list(reach(forest, forest.expand(categories, numbers)))
    each = -(-rows // len(reached))
    picked = np.concatenate([rng.choice(here, each) for _, here in reached])
    asked = Asked(categories[picked], numbers[picked])
    for i, (split, _) in enumerate(reached):
        move(forest, split, asked[i * each : (i + 1) * each], rng)
    return asked[:rows] if len(asked) == rows else shuffle(asked, rng, rows)


def reach(forest: Forest, features: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield every split, and the rows that come to it; where none does, any row."""
    nodes, everyone = forest.nodes, np.arange(len(features))
    for root in forest.roots.tolist():
        waiting = [(root, everyone)]
        while waiting:
            node, here = waiting.pop()
            if nodes.feature[node] == LEAF:
                continue
            yield node, here if len(here) else everyone
            x = features[here, nodes.feature[node]]
            left = (x <= nodes.threshold[node]) | (np.isnan(x) & nodes.missing_left[node])
            waiting += [(int(nodes.left[node]), here[left]), (int(nodes.right[node]), here[~left])]


def move(forest: Forest, split: int, asked: Asked, rng: np.random.Generator) -> None:
    """Put a split's edges into its column, in place."""
    feature = int(forest.nodes.feature[split])
    if feature < forest.numbers:
        at = forest.nodes.threshold[split]
        sides = [np.nextafter(at, np.float32(to)) for to in (-np.inf, np.inf)]
        edges = np.array([at, *sides], np.float32)
        edges = np.where(
            rng.random(len(asked)) < 0.2, rng.choice(ODD, len(asked)), rng.choice(edges, len(asked))
        )
        asked.numbers[:, feature] = edges
        return
    starts = np.cumsum([forest.numbers, *(table.shape[1] for table in forest.outside)])
    column = int(np.searchsorted(starts, feature, side="right")) - 1
    codes = np.append(np.arange(len(forest.outside[column]) + 2), [-1, 1000])
    asked.categories[:, column] = rng.choice(codes, len(asked))


def shuffle(asked: Asked, rng: np.random.Generator, rows: int) -> Asked:
    """Keep so many of the rows."""
    kept = rng.permutation(len(asked))[:rows]
    return Asked(asked.categories[kept], asked.numbers[kept])


def compare(model: Boosted, booster: Booster, asked: Asked) -> None:
    """Print where the graph or the arrays differ from LightGBM: in leaves, then in sums."""
    forest = model.forest
    exact = [compare_part(forest, booster, asked[part]) for part in asked]
    leaves_off, arrays_off, sums_off = np.sum([each.off for each in exact], axis=0)
    print(f"rows where any tree of the graph ends in another leaf than LightGBM's: {leaves_off}")
    print(f"rows where any tree of the arrays does: {arrays_off}")
    print(f"rows where score() is not LightGBM's float64 sum, bit for bit: {sums_off}")
    sums = np.concatenate([each.sums for each in exact])
    size = np.concatenate([each.size for each in exact])
    core, first = model.to_core(20), None
    for threads in THREADS:
        for batch in BATCHES:
            answers = answer(core, asked, threads, batch)
            first = answers if first is None else first
            distance = (np.abs(answers - sums) / size).max()
            other = int((answers != first).sum())
            print(
                f"threads {threads} batch {batch:3}: largest |sum - float64 sum| / sum |leaf| "
                f"{distance:.2e}, rows with other bits than alone {other}",
                flush=True,
            )


@dataclass(frozen=True)
class Compared:
    """Some rows: LightGBM's sums, the sizes of the leaves in them, and counts of what differs."""

    sums: NDArray[np.float64]
    size: NDArray[np.float64]
    off: tuple[int, int, int]


def compare_part(forest: Forest, booster: Booster, rows: Asked) -> Compared:
    """Ask LightGBM, the arrays and a graph whose trees answer with their leaf's position."""
    columns = side_by_side(rows.categories, rows.numbers)
    sums = booster.predict(columns, raw_score=True, num_threads=1)
    theirs = booster.predict(columns, pred_leaf=True, num_threads=1).astype(np.int64)
    theirs += forest.roots + (count_nodes(forest) - 1) // 2  # a tree's leaves follow its splits
    ours = forest.find_leaves(rows.categories, rows.numbers)
    session, names = open_session(make_core(numbering(forest), opset=20), 1)
    of_graph = session.run(None, feed(rows, names))[0]
    scores = forest.sum_scores(rows.categories, rows.numbers)[:, 0]
    off = (int((of_graph != theirs).any(1).sum()), int((ours != theirs).any(1).sum()))
    size = np.abs(forest.nodes.value[theirs]).sum(1)
    return Compared(sums, size, (*off, int((scores != sums).sum())))


def count_nodes(forest: Forest) -> NDArray[np.int64]:
    """Return how many nodes each tree has."""
    return np.diff(np.append(forest.roots, len(forest.nodes.feature)))


def numbering(forest: Forest) -> Forest:
    """Make every tree answer for itself, with the position of its leaf."""
    trees, nodes = len(forest.roots), len(forest.nodes.feature)
    return replace(
        forest,
        nodes=replace(forest.nodes, value=np.arange(nodes, dtype=np.float64)),
        outputs=np.arange(trees, dtype=np.int32),
        base=np.zeros(trees),
    )


def answer(core: ModelProto, asked: Asked, threads: int, batch: int) -> NDArray[np.float32]:
    """Answer all rows, so many at once."""
    session, names = open_session(core, threads)
    columns = feed(asked, names)
    parts = [
        session.run(None, {name: values[at : at + batch] for name, values in columns.items()})[0]
        for at in range(0, len(asked), batch)
    ]
    return np.concatenate(parts)[:, 0]


def time_answers(model: Boosted, asked: Asked) -> None:
    """Print how long one row and 64 rows take."""
    session, names = open_session(model.to_core(20), 1)
    for rows in (1, 64):
        columns = feed(asked[:rows], names)
        taken = []
        for _ in range(500):
            began = time.perf_counter()
            session.run(None, columns)
            taken.append(time.perf_counter() - began)
        print(f"{rows:2} rows, 1 thread: median {np.median(taken) * 1e6:.0f} us")


def open_session(core: ModelProto, threads: int) -> tuple[onnxruntime.InferenceSession, list[str]]:
    """Open a graph on the CPU, and name its inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        core.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, [each.name for each in session.get_inputs()]


def feed(asked: Asked, names: list[str]) -> dict[str, NDArray]:
    """Return the columns that a graph takes."""
    columns = {graph.CATEGORIES: asked.categories, graph.NUMBERS: asked.numbers}
    return {name: columns[name] for name in names}


if __name__ == "__main__":
    main()
