"""What stages ask of a family, and what a family gives them. Types only: nothing runs here.

Rows come prepared: codes [N, C], where 0 is unknown or missing, and raw numbers float32
[N, F], where NaN is missing. What goes out are scores [N, K]: logits of the classes, that of the
positive one of two, or the number in the target's unit.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slipway.problem import Scores, Target

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

    from slipway.settings.families import NetworkConfig, TreesConfig
    from tasks.models import network, trees
    from tasks.shards import Rows

Codes = NDArray[np.integer[Any]]
Numbers = NDArray[np.float32]

Progress = Callable[[int, float], None]
"""Hears of each round and its loss on the stop rows."""


class TrainedModel(Protocol):
    """A model that was read from weights, and can become a graph."""

    def score(self, categories: Codes, numbers: Numbers) -> Scores:
        """Return scores [N, K]."""

    def to_core(self, opset: int) -> "ModelProto":
        """Return the graph from `graph.CATEGORIES` and `graph.NUMBERS` to `graph.SCORES`."""


class Family(Protocol):
    """What every family does: read what its training wrote."""

    def load(self, folder: Path) -> TrainedModel:
        """Read a model from its folder."""


class LoopFamily(Family, Protocol):
    """A family that the training loop trains, in one process per GPU."""

    def build(self, config: "NetworkConfig", features: dict[str, Any]) -> "network.Network":
        """Make a model to be trained: from int64 codes and numbers to raw outputs."""

    def save(self, module: "nn.Module", folder: Path) -> None:
        """Write what `build` made, in bytes that depend on nothing else."""


class FittedFamily(Family, Protocol):
    """A family that is fitted in one call, in this process."""

    def fit(
        self,
        config: "TreesConfig",
        target: Target,
        *,
        train: "Rows",
        stop: "Rows",
        progress: Progress,
    ) -> "FittedModel":
        """Fit on training rows until the stop rows say that it is enough."""


class FittedModel(TrainedModel, Protocol):
    """A model that was just fitted."""

    @property
    def best_round(self) -> int:
        """The last round that is kept."""

    @property
    def parameters(self) -> int:
        """Numbers that were learned."""

    def save(self, folder: Path) -> None:
        """Write it, in bytes that depend on nothing else."""


if TYPE_CHECKING:  # where mypy holds each package against what is asked of it
    loops: tuple[LoopFamily, ...] = (network,)
    fitted: tuple[FittedFamily, ...] = (trees,)
