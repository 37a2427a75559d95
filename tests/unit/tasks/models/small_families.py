"""Small prepared rows of each problem, and both families fitted or built on them."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import reload
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch

from slipway.config import load_config
from slipway.problem import Target
from slipway.settings.families import NetworkConfig, TreesConfig
from tasks.models import load_fitted_family, load_loop_family
from tasks.models.family import FittedModel
from tasks.models.network import Network
from tasks.shards import Rows
from tests.project import REPOSITORY

TARGETS = {
    "binary": Target("y", "binary", ("no", "yes")),
    "multiclass": Target("y", "multiclass", ("a", "b", "c")),
    "regression": Target("y", "regression"),
}
VOCABULARIES = (5, 3)


@dataclass(frozen=True)
class Small:
    """A problem's rows, and what prepare would say of them."""

    problem: str
    rows: Rows
    features: dict[str, Any]

    @property
    def target(self) -> Target:
        """Return the target."""
        return TARGETS[self.problem]


def make_small(
    problem: str, *, columns: int = 2, numbers: int = 2, count: int = 600, seed: int = 0
) -> Small:
    """Make rows whose labels follow the first code and number, some codes and numbers missing."""
    dice = np.random.default_rng(seed)
    codes = np.stack(
        [dice.integers(0, size + 1, count) for size in VOCABULARIES[:columns]]
        or [np.empty(count, np.int32)], axis=1,
    )[:, :columns].astype(np.int32)  # fmt: skip
    values = dice.normal(10, 4, (count, numbers)).astype(np.float32)
    values[dice.random(values.shape) < 0.1] = np.nan
    signal = (codes[:, 0] % 2 if columns else np.zeros(count)) * 2.0
    signal = signal + (np.nan_to_num(values[:, 0] - 10) / 4 if numbers else 0)
    labels = {
        "binary": signal > np.median(signal),
        "multiclass": np.digitize(signal, np.quantile(signal, [0.33, 0.67])),
        "regression": 1000 + 50 * signal,
    }[problem].astype(np.float64)
    rows = Rows(codes, values, labels, np.arange(count), None)
    return Small(problem, rows, _features(problem, rows))


def _features(problem: str, rows: Rows) -> dict[str, Any]:
    target = TARGETS[problem]
    known = [column[np.isfinite(column)].astype(float) for column in rows.numbers.T]
    return {
        "target": {
            "name": target.name,
            "problem": target.problem,
            "classes": list(target.classes),
        },
        "weight": None,
        "categories": [
            {"name": f"k{i}", "meaning": "", "vocabulary": [f"v{j}" for j in range(size)]}
            for i, size in enumerate(VOCABULARIES[: rows.categories.shape[1]])
        ],
        "numbers": [
            {
                "name": f"n{i}",
                "meaning": "",
                "center": float(np.median(column)),
                "scale": float(column.std()),
                "min": float(column.min()),
                "max": float(column.max()),
                "missing_share": 0.1,
                "quantiles": np.unique(np.quantile(column, np.linspace(0, 1, 49))).tolist(),
            }
            for i, column in enumerate(known)
        ],
        "parts": {"train": {"mean": float(rows.labels.mean()), "std": float(rows.labels.std())}},
    }


def network_config(**changes: Any) -> NetworkConfig:
    """Return the config of a small network."""
    usual = load_config(REPOSITORY, "flights").families.network
    assert isinstance(usual, NetworkConfig)
    small = {"hidden": 8, "blocks": 1, "dropout": 0.5, "number_width": 3, "bins": 6, "members": 3}
    return NetworkConfig.model_validate({**usual.model_dump(), **small, **changes})


def trees_config(**changes: Any) -> TreesConfig:
    """Return the config of a few trees."""
    usual = load_config(REPOSITORY, "flights").families.trees
    assert isinstance(usual, TreesConfig)
    small = {"iterations": 8, "learning_rate": 0.3, "leaves": 6, "min_leaf_rows": 5, "threads": 1}
    return TreesConfig.model_validate({**usual.model_dump(), **small, **changes})


def build_network(small: Small, seed: int = 0, **changes: Any) -> Network:
    """Build a network as it is before the first step, ready to answer."""
    torch.manual_seed(seed)
    network = load_loop_family("network").build(network_config(**changes), small.features)
    assert isinstance(network, Network)
    return network.eval()


def fit_trees(
    small: Small,
    *,
    stop: Rows | None = None,
    progress: Callable[[int, float], None] = lambda done, loss: None,
    **changes: Any,
) -> FittedModel:
    """Fit trees; without other rows they stop by those that they learned from."""
    # the package's own `fit` again: once it ran, its name is that of the module fit.py
    family = reload(cast("ModuleType", load_fitted_family("trees")))
    model: FittedModel = family.fit(
        trees_config(**changes),
        small.target,
        train=small.rows,
        stop=small.rows if stop is None else stop,
        progress=progress,
    )
    return model
