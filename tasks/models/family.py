"""What stages ask of a family, and what a family gives them. Types only: nothing runs here.

Rows come prepared: codes [N, C], where 0 is unknown or missing, and raw numbers float32
[N, F], where NaN is missing.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

    from slipway.config import TrainConfig, TreeConfig
    from tasks.models import network, trees
    from tasks.shards import Rows

Codes = NDArray[np.integer[Any]]
Numbers = NDArray[np.float32]
Answers = NDArray[np.floating[Any]]


class Model(Protocol):
    """What answers rows, however it was made."""

    def predict(self, categories: Codes, numbers: Numbers) -> Answers:
        """Return one answer per row, in the form that the problem asks for."""


class TrainedModel(Model, Protocol):
    """A model that was read from weights, and can become a graph."""

    def to_core(self, opset: int) -> "ModelProto":
        """Return the graph from `graph.CATEGORIES` and `graph.NUMBERS` to the answers."""


class Family(Protocol):
    """A family that the training loop trains: its weights are kept and exported."""

    def build(self, config: "TrainConfig", features: dict[str, Any]) -> "nn.Module":
        """Make a model to be trained: from int64 codes and numbers to logits [N]."""

    def save(self, module: "nn.Module", folder: Path) -> None:
        """Write what `build` made, in bytes that depend on nothing else."""

    def load(self, folder: Path) -> TrainedModel:
        """Read what `save` wrote."""


class Reference(Protocol):
    """A family that is fitted where it is measured against; nothing of it is kept."""

    def fit(self, config: "TreeConfig", rows: "Rows") -> Model:
        """Fit on rows as they were prepared for the others."""


if TYPE_CHECKING:  # where mypy holds each module against what is asked of it
    families: tuple[Family, ...] = (network,)
    references: tuple[Reference, ...] = (trees,)
