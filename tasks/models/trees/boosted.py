"""Boosted trees that ship: fitted by LightGBM, kept as arrays, and a graph of the same numbers.

What is kept needs no LightGBM: trees answer by arithmetic of their own, which is exact on the
float32 numbers that a graph will see.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from slipway.errors import SlipwayError
from tasks.models.trees.forest import Codes, Forest, Nodes, Numbers
from tasks.models.trees.settings import PROBLEMS, LabelledRows, Progress, Settings

if TYPE_CHECKING:
    from onnx import ModelProto

TREES = "trees.safetensors"
SHAPE = "trees.json"


@dataclass(frozen=True)
class Boosted:
    """Trees that were fitted."""

    problem: str
    forest: Forest

    def score(self, categories: Codes, numbers: Numbers) -> NDArray[np.float64]:
        """Return scores [N, K]: a logit, a score per class before the softmax, or the number."""
        return self.forest.sum_scores(categories, numbers)

    def to_core(self, opset: int) -> "ModelProto":
        """Return the graph from codes and numbers to scores [N, K].

        How it is made is imported here: who edits that need not fit anew.
        """
        from tasks.models.trees.graph import make_core

        return make_core(self.forest, opset=opset)


def fit(
    settings: Settings,
    problem: str,
    classes: int,
    train: LabelledRows,
    *,
    stop: LabelledRows | None = None,
    progress: Progress | None = None,
) -> Boosted:
    """Fit trees; with `stop` rows, keep as many rounds as answer those best.

    LightGBM is imported here: who only answers does not wait for it.
    """
    if problem not in PROBLEMS:
        raise SlipwayError(f"problem {problem!r}: trees know {', '.join(PROBLEMS)}")
    from tasks.models.trees.boosting import grow

    for name, rows in (("train", train), ("stop", stop)):
        if rows is not None:
            _check_labels(name, rows, 2 if problem == "binary" else classes, problem)
    outputs = classes if problem == "multiclass" else 1
    return Boosted(problem, grow(settings, (problem, outputs), train, stop=stop, progress=progress))


def _check_labels(name: str, rows: LabelledRows, classes: int, problem: str) -> None:
    """Refuse labels that mean nothing: LightGBM takes missing ones, and classes beyond the last."""
    if problem == "regression":
        good, expected = np.isfinite(rows.labels), "finite numbers"
    else:
        good, expected = np.isin(rows.labels, range(classes)), f"0 .. {classes - 1}"
    if not good.all():
        raise SlipwayError(
            f"{name} rows: labels of {problem} are {expected}; "
            f"{np.sum(~good)} of {len(rows)} are not, the first is {rows.labels[~good][0]}"
        )


def save(model: Boosted, folder: Path) -> None:
    """Write the trees' arrays; the bytes depend on nothing else."""
    forest = model.forest
    arrays = {**asdict(forest.nodes), "roots": forest.roots, "outputs": forest.outputs}
    arrays["base"] = forest.base
    arrays |= {f"outside.{i}": table for i, table in enumerate(forest.outside)}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / TREES)
    shape = {"problem": model.problem, "categories": len(forest.outside), "numbers": forest.numbers}
    (folder / SHAPE).write_text(json.dumps(shape, indent=2, sort_keys=True) + "\n", "utf-8")


def load(folder: Path) -> Boosted:
    """Read trees from their folder."""
    shape: dict[str, Any] = json.loads((folder / SHAPE).read_text("utf-8"))
    arrays = load_file(folder / TREES)
    forest = Forest(
        nodes=Nodes(*(arrays[each.name] for each in fields(Nodes))),
        roots=arrays["roots"],
        outputs=arrays["outputs"],
        outside=tuple(arrays[f"outside.{i}"] for i in range(shape["categories"])),
        numbers=shape["numbers"],
        base=arrays["base"],
    )
    return Boosted(shape["problem"], forest)
