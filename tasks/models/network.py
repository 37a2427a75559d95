"""The network: embeddings for categories, normalised numbers, residual blocks.

Normalisation and the treatment of missing numbers are part of it, so that training, export
and every host see raw numbers and can never disagree about them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from onnx import ModelProto

    from slipway.config import TrainConfig

WEIGHTS = "model.safetensors"
ARCHITECTURE = "architecture.json"

BATCH_ROWS = 8192
"""Rows that are answered at once: what lies between the layers fits into memory."""


class Block(nn.Module):
    """Add a correction of two layers to what comes in (pre-activation residual block)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, width] to [N, width]."""
        hidden = self.dropout(torch.relu(self.widen(self.norm(x))))
        narrowed: Tensor = self.narrow(hidden)
        return x + narrowed


class Network(nn.Module):
    """Give one logit per row from category codes and raw numbers."""

    def __init__(
        self,
        vocabularies: list[int],
        mean: list[float],
        std: list[float],
        hidden: int,
        blocks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.architecture = {
            "vocabularies": vocabularies,
            "mean": mean,
            "std": std,
            "hidden": hidden,
            "blocks": blocks,
            "dropout": dropout,
        }
        widths = [embedding_width(n) for n in vocabularies]
        # code 0 is unknown or missing, so a vocabulary of n values has n + 1 rows
        self.embeddings = nn.ModuleList(
            nn.Embedding(n + 1, width) for n, width in zip(vocabularies, widths, strict=True)
        )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.enter = nn.Linear(sum(widths) + 2 * len(mean), hidden)
        self.blocks = nn.ModuleList(Block(hidden, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(hidden)
        self.leave = nn.Linear(hidden, 1)

    mean: Tensor
    std: Tensor

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        """Map codes int64 [N, C] and raw numbers float32 [N, F] (NaN: missing) to logits [N]."""
        missing = torch.isnan(numbers)
        normal = torch.where(missing, torch.zeros_like(numbers), (numbers - self.mean) / self.std)
        # Weather stations report outliers far beyond anything trained on; the embedding of a
        # clipped value is still "very high", and one row cannot drive a layer out of its range.
        normal = torch.clamp(normal, -8.0, 8.0)
        embedded = [table(categories[:, i]) for i, table in enumerate(self.embeddings)]
        x = self.enter(torch.cat([*embedded, normal, missing.to(normal.dtype)], dim=1))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.leave(torch.relu(self.norm(x)))
        return logits.squeeze(1)


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that only answers."""

    network: Network

    def predict(
        self, categories: NDArray[np.integer[Any]], numbers: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return probabilities [N], some rows at a time."""
        answers = []
        with torch.inference_mode():
            for start in range(0, len(numbers), BATCH_ROWS):
                part = slice(start, start + BATCH_ROWS)
                # copies: rows may be mapped files, which torch must not be able to write to
                codes = torch.from_numpy(categories[part].astype(np.int64))
                logits = self.network(codes, torch.from_numpy(numbers[part].copy()))
                answers.append(torch.sigmoid(logits).numpy())
        return np.concatenate(answers)

    def to_core(self, opset: int) -> "ModelProto":
        """Return the graph from codes and numbers to probabilities.

        How it is made is imported here: who edits that need not train anew.
        """
        from tasks.models.network_graph import export_core

        categories, numbers = len(self.network.embeddings), len(self.network.mean)
        return export_core(self.network, categories, numbers, opset=opset)


def embedding_width(values: int) -> int:
    """Choose an embedding's width: 1.6 n^0.56 (fastai's rule), at most 32."""
    width: float = 1.6 * values**0.56
    return min(32, max(2, round(width)))


def build(config: "TrainConfig", features: dict[str, Any]) -> Network:
    """Make a network for the prepared features, to be trained."""
    return Network(
        vocabularies=[len(category["vocabulary"]) for category in features["categories"]],
        mean=[number["mean"] for number in features["numbers"]],
        std=[number["std"] for number in features["numbers"]],
        hidden=config.hidden,
        blocks=config.blocks,
        dropout=config.dropout,
    )


def save(module: nn.Module, folder: Path) -> None:
    """Write weights and architecture; the bytes depend on nothing else."""
    assert isinstance(module, Network)  # the loop hands back what it was built
    state = {name: value.contiguous().cpu() for name, value in module.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    text = json.dumps(module.architecture, indent=2, sort_keys=True)
    (folder / ARCHITECTURE).write_text(text + "\n", "utf-8")


def load(folder: Path) -> TrainedNetwork:
    """Read a network from its folder, ready for inference."""
    architecture: dict[str, Any] = json.loads((folder / ARCHITECTURE).read_text("utf-8"))
    network = Network(**architecture)
    network.load_state_dict(load_file(folder / WEIGHTS))
    return TrainedNetwork(network.eval())
