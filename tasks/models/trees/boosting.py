"""Fit trees with LightGBM, so that the same rows give the same trees.

Category columns are split as categories: by sets of codes, not by their order.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
from lightgbm.callback import CallbackEnv
from numpy.typing import NDArray

from tasks.models.trees.text import read_forest

if TYPE_CHECKING:
    from tasks.models.trees.forest import Codes, Forest, Numbers
    from tasks.models.trees.settings import LabelledRows, Progress, Settings

LOSSES = {"binary": "binary_logloss", "multiclass": "multi_logloss", "regression": "rmse"}
"""What ends the boosting, by problem."""


@dataclass(frozen=True)
class Unit:
    """What a regression's labels are counted in while fitting: (label - centre) / size.

    LightGBM keeps labels as float32, which cannot tell apart times or prices that are far from
    zero. The size is a power of two, so that leaves are put back without rounding.
    """

    centre: float = 0.0
    size: float = 1.0

    def apply(self, labels: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Count labels in this unit."""
        return (labels.astype(np.float64) - self.centre) / self.size


@dataclass(frozen=True)
class Boosting:
    """What LightGBM made, and how many of its rounds are kept."""

    booster: lightgbm.Booster
    rounds: int
    unit: Unit


def grow(
    settings: "Settings",
    target: tuple[str, int],
    train: "LabelledRows",
    stop: "LabelledRows | None" = None,
    progress: "Progress | None" = None,
) -> "Forest":
    """Fit a forest for a problem and so many outputs."""
    boosting = boost(settings, target, train, stop=stop, progress=progress)
    text = boosting.booster.model_to_string(num_iteration=boosting.rounds)
    columns, numbers = train.categories.shape[1], train.numbers.shape[1]
    forest = read_forest(text, columns, numbers, target[1])
    unit = boosting.unit
    nodes = replace(forest.nodes, value=forest.nodes.value * unit.size)
    return replace(forest, nodes=nodes, base=forest.base + unit.centre)


def boost(
    settings: "Settings",
    target: tuple[str, int],
    train: "LabelledRows",
    stop: "LabelledRows | None" = None,
    progress: "Progress | None" = None,
) -> Boosting:
    """Run LightGBM, and end it by the problem's loss where there are rows to end it by."""
    problem, outputs = target
    unit = _measure(train) if problem == "regression" else Unit()
    options = _options(settings, problem, outputs)
    rows = _dataset(train, unit, options)
    callbacks = [] if progress is None else [_tell(progress, unit)]
    if stop is not None:
        callbacks.append(lightgbm.early_stopping(settings.patience, verbose=False))
    booster = lightgbm.train(
        options,
        rows,
        settings.iterations,
        valid_sets=None if stop is None else [_dataset(stop, unit, options, reference=rows)],
        callbacks=callbacks,
    )
    rounds = booster.current_iteration() if stop is None else booster.best_iteration
    return Boosting(booster, rounds, unit)


def side_by_side(categories: "Codes", numbers: "Numbers") -> NDArray[np.float32]:
    """Put the codes in front of the numbers, as LightGBM takes them: float32 holds every code."""
    return np.hstack([categories, numbers], dtype=np.float32, casting="unsafe")


def _options(settings: "Settings", problem: str, outputs: int) -> dict[str, Any]:
    """Name the settings as LightGBM does."""
    return {
        "objective": problem,
        "num_class": outputs,
        "metric": LOSSES[problem],
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": settings.min_leaf_rows,
        "lambda_l2": settings.l2,
        "bagging_fraction": settings.row_share,
        "bagging_freq": 1,
        "feature_fraction": settings.column_share,
        "seed": settings.seed,
        "num_threads": settings.threads,
        # sums are added in one order, whatever the machine would find faster
        "deterministic": True,
        "force_col_wise": True,
        "boost_from_average": problem != "regression",  # whose centre is taken off already
        "verbose": -1,
    }


def _measure(train: "LabelledRows") -> Unit:
    """Take the labels' mean, and the power of two next to their spread."""
    labels = train.labels.astype(np.float64)
    centre = float(np.average(labels, weights=train.weights))
    spread = float(np.sqrt(np.average((labels - centre) ** 2, weights=train.weights)))
    return Unit(centre, float(2.0 ** np.round(np.log2(spread))) if spread > 0 else 1.0)


def _dataset(
    rows: "LabelledRows",
    unit: Unit,
    options: dict[str, Any],
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        side_by_side(rows.categories, rows.numbers),
        unit.apply(rows.labels),
        weight=rows.weights,
        reference=reference,
        categorical_feature=list(range(rows.categories.shape[1])),
        params=options,
    )


def _tell(progress: "Progress", unit: Unit) -> Any:
    def tell(env: CallbackEnv) -> None:
        found = env.evaluation_result_list
        progress(env.iteration + 1, float(found[0][2]) * unit.size if found else None)

    return tell
