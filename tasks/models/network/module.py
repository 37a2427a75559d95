"""The network: embeddings for categories and numbers, residual blocks, an implicit ensemble.

Normalisation and the treatment of missing numbers are part of it, so that training, export
and every host see raw numbers and can never disagree about them. Numbers are encoded piecewise
linearly over the quantiles of the training rows (Gorishniy et al., "On embeddings for numerical
features", 2022), the members share all but an input scale and their last layer (TabM-mini: the
same, 2024).
"""

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tasks.models.network.objectives import OBJECTIVES

if TYPE_CHECKING:
    from onnx import ModelProto

    from slipway.settings.families import NetworkConfig

WEIGHTS = "model.safetensors"
ARCHITECTURE = "architecture.json"

BATCH_ROWS = 4096
"""Rows that are answered at once: what lies between the layers fits into memory."""

CLIPPED = 8.0
"""Weather stations report outliers far beyond anything trained on; a clipped value is still "very
high", and one row cannot drive a layer out of its range."""


@dataclass(frozen=True)
class Architecture:
    """All that the network's form depends on."""

    problem: str
    outputs: int
    vocabularies: list[int]
    edges: list[list[float]]
    """Per number: ascending ends of its bins."""
    center: list[float]
    scale: list[float]
    target_center: float
    target_scale: float
    hidden: int
    blocks: int
    dropout: float
    members: int
    number_width: int


class Block(nn.Module):
    """Add a correction of two layers to what comes in (pre-activation residual block)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., width]."""
        hidden = self.dropout(torch.relu(self.widen(self.norm(x))))
        narrowed: Tensor = self.narrow(hidden)
        return x + narrowed


class Numbers(nn.Module):
    """Embed raw numbers, each by itself."""

    def __init__(
        self, edges: list[list[float]], center: list[float], scale: list[float], width: int
    ):
        super().__init__()
        bins = max(2, max(len(each) for each in edges))
        lows, spans = zip(*(_bins(each, bins - 1) for each in edges), strict=True)
        self.register_buffer("low", torch.tensor(lows, dtype=torch.float32))
        self.register_buffer("span", torch.tensor(spans, dtype=torch.float32))
        self.register_buffer("center", torch.tensor(center, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.weight = nn.Parameter(torch.empty(len(edges), bins - 1, width))
        self.bias = nn.Parameter(torch.zeros(len(edges), width))
        nn.init.normal_(self.weight, std=(bins - 1) ** -0.5)
        self.width = len(edges) * (width + 2)

    low: Tensor
    span: Tensor
    center: Tensor
    scale: Tensor

    def forward(self, numbers: Tensor) -> Tensor:
        """Map raw numbers [N, F] to [N, width]: bins, the value, whether it is missing (NaN)."""
        missing = torch.isnan(numbers)
        known = torch.where(missing, self.center, numbers)
        filled = torch.clamp((known[:, :, None] - self.low) / self.span, 0.0, 1.0)
        filled = torch.where(missing[:, :, None], torch.zeros_like(filled), filled)
        # [F, N, B] @ [F, B, W]: one small matrix product per number
        embedded = torch.relu(
            torch.matmul(filled.transpose(0, 1), self.weight).transpose(0, 1) + self.bias
        )
        normal = torch.clamp((known - self.center) / self.scale, -CLIPPED, CLIPPED)
        return torch.cat([embedded.flatten(1), normal, missing.to(normal.dtype)], dim=1)


class Network(nn.Module):
    """Give scores [N, K] from category codes and raw numbers."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        widths = [embedding_width(n) for n in a.vocabularies]
        # code 0 is unknown or missing, so a vocabulary of n values has n + 1 rows
        self.embeddings = nn.ModuleList(
            nn.Embedding(n + 1, width) for n, width in zip(a.vocabularies, widths, strict=True)
        )
        self.numbers = Numbers(a.edges, a.center, a.scale, a.number_width) if a.edges else None
        width = sum(widths) + (self.numbers.width if self.numbers else 0)
        self.members = nn.Parameter(_signs(a.members, width))
        self.enter = nn.Linear(width, a.hidden)
        self.blocks = nn.ModuleList(Block(a.hidden, a.dropout) for _ in range(a.blocks))
        self.norm = nn.LayerNorm(a.hidden)
        self.leave = nn.Parameter(torch.empty(a.members, a.hidden, a.outputs))
        self.leave_bias = nn.Parameter(torch.zeros(a.members, a.outputs))
        nn.init.uniform_(self.leave, -(a.hidden**-0.5), a.hidden**-0.5)

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        """Map codes int64 [N, C] and raw numbers float32 [N, F] (NaN: missing) to [N, members, K].

        Raw: logits, or numbers in standard deviations of the target.
        """
        parts = [table(categories[:, i]) for i, table in enumerate(self.embeddings)]
        parts += [self.numbers(numbers)] if self.numbers is not None else []
        together = torch.cat(parts, dim=1)
        x = self.enter(together[:, None, :] * self.members)
        for block in self.blocks:
            x = block(x)
        x = torch.relu(self.norm(x))
        # [M, N, H] @ [M, H, K]
        return torch.matmul(x.transpose(0, 1), self.leave).transpose(0, 1) + self.leave_bias

    def loss(self, raw: Tensor, labels: Tensor) -> Tensor:
        """Return the loss [N] of raw outputs against labels in the target's own unit."""
        a = self.architecture
        return OBJECTIVES[a.problem].loss(raw, (labels - a.target_center) / a.target_scale)

    def score(self, raw: Tensor) -> Tensor:
        """Join the members to scores [N, K], numbers in the target's own unit."""
        a = self.architecture
        joined: Tensor = OBJECTIVES[a.problem].join(raw.float())
        return joined * a.target_scale + a.target_center


class NetworkCore(nn.Module):
    """The network with its members joined: what becomes a graph."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        """Map codes int64 [N, C] and numbers float32 [N, F] to scores [N, K]."""
        return self.network.score(self.network(categories, numbers))


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that only answers."""

    network: Network

    def score(
        self, categories: NDArray[np.integer[Any]], numbers: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return scores [N, K], some rows at a time."""
        answers = [np.empty((0, self.network.architecture.outputs), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(numbers), BATCH_ROWS):
                part = slice(start, start + BATCH_ROWS)
                # copies: rows may be mapped files, which torch must not be able to write to
                codes = torch.from_numpy(categories[part].astype(np.int64))
                raw = self.network(codes, torch.from_numpy(numbers[part].copy()))
                answers.append(self.network.score(raw).numpy())
        return np.concatenate(answers)

    def to_core(self, opset: int) -> "ModelProto":
        """Return the graph from codes and numbers to scores.

        How it is made is imported here: who edits that need not train anew.
        """
        from tasks.models.network.graph import export_core

        a = self.network.architecture
        core = NetworkCore(self.network)
        return export_core(core, len(a.vocabularies), len(a.edges), opset=opset)


def embedding_width(values: int) -> int:
    """Choose an embedding's width: 1.6 n^0.56 (fastai's rule), at most 32."""
    width: float = 1.6 * values**0.56
    return min(32, max(2, round(width)))


def build(config: "NetworkConfig", features: dict[str, Any]) -> Network:
    """Make a network for the prepared features, to be trained."""
    target, train = features["target"], features["parts"]["train"]
    number = not target["classes"]
    numbers = features["numbers"]
    return Network(
        Architecture(
            problem=target["problem"],
            outputs=len(target["classes"]) if target["problem"] == "multiclass" else 1,
            vocabularies=[len(category["vocabulary"]) for category in features["categories"]],
            edges=[_thinned(each["quantiles"], config.bins) for each in numbers],
            center=[each["center"] for each in numbers],
            scale=[each["scale"] for each in numbers],
            target_center=train["mean"] if number else 0.0,
            target_scale=(train["std"] or 1.0) if number else 1.0,
            hidden=config.hidden,
            blocks=config.blocks,
            dropout=config.dropout,
            members=config.members,
            number_width=config.number_width,
        )
    )


def save(module: nn.Module, folder: Path) -> None:
    """Write weights and architecture; the bytes depend on nothing else."""
    assert isinstance(module, Network)  # the loop hands back what it was built
    state = {name: value.contiguous().cpu() for name, value in module.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    text = json.dumps(asdict(module.architecture), indent=2, sort_keys=True)
    (folder / ARCHITECTURE).write_text(text + "\n", "utf-8")


def load(folder: Path) -> TrainedNetwork:
    """Read a network from its folder, ready for inference."""
    network = Network(Architecture(**json.loads((folder / ARCHITECTURE).read_text("utf-8"))))
    network.load_state_dict(load_file(folder / WEIGHTS))
    return TrainedNetwork(network.eval())


def _thinned(quantiles: list[float], bins: int) -> list[float]:
    """Keep about so many bins of those that were measured, the first and the last end too."""
    if len(quantiles) <= bins + 1:
        return quantiles
    places = np.unique(np.linspace(0, len(quantiles) - 1, bins + 1).round().astype(int))
    return [quantiles[i] for i in places]


def _bins(edges: list[float], count: int) -> tuple[list[float], list[float]]:
    """Return lower ends and lengths of bins; those that a number has too few for stay empty."""
    low = [*edges[:-1]][:count] or [edges[0]]
    span = [max(b - a, 1e-12) for a, b in pairwise(edges)][:count] or [1.0]
    # a bin that begins beyond every value is never filled
    missing = count - len(low)
    return low + [float(np.finfo(np.float32).max) / 4] * missing, span + [1.0] * missing


def _signs(members: int, width: int) -> Tensor:
    """Begin with members that see the inputs with random signs; one alone sees them as they are."""
    if members == 1:
        return torch.ones(1, width)
    return torch.randint(0, 2, (members, width)).float() * 2 - 1
