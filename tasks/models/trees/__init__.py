"""The family `trees`: gradient-boosted trees, fitted by LightGBM, exported exactly."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.problem import PROBLEMS, Scores, Target
from tasks.models.trees import boosted
from tasks.models.trees.boosted import Boosted, load
from tasks.models.trees.forest import Codes, Numbers
from tasks.models.trees.settings import LabelledRows, Settings

if TYPE_CHECKING:
    from onnx import ModelProto

    from slipway.settings.families import TreesConfig
    from tasks.shards import Rows

__all__ = ["fit", "load"]


@dataclass(frozen=True)
class FittedTrees:
    """Trees that were just fitted."""

    trees: Boosted
    best_round: int
    parameters: int

    def score(self, categories: Codes, numbers: Numbers) -> Scores:
        """Return scores [N, K]."""
        return self.trees.score(categories, numbers)

    def to_core(self, opset: int) -> "ModelProto":
        """Return the graph from codes and numbers to scores."""
        return self.trees.to_core(opset)

    def save(self, folder: Path) -> None:
        """Write the trees' arrays."""
        boosted.save(self.trees, folder)


def fit(
    config: "TreesConfig",
    target: Target,
    *,
    train: "Rows",
    stop: "Rows",
    progress: Callable[[int, float], None],
) -> FittedTrees:
    """Fit until the stop rows get no better; keep as many rounds as answer those best."""
    settings = Settings(**config.model_dump())
    trees = boosted.fit(
        settings,
        target.problem,
        len(target.classes),
        _labelled(train),
        stop=_labelled(stop),
        progress=lambda done, loss: progress(done, float("nan") if loss is None else loss),
    )
    outputs = PROBLEMS[target.problem].count_scores(target)
    forest = trees.forest
    return FittedTrees(
        trees, best_round=len(forest.roots) // outputs, parameters=len(forest.nodes.value)
    )


def _labelled(rows: "Rows") -> LabelledRows:
    return LabelledRows(rows.categories, rows.numbers, rows.labels, rows.weights)
