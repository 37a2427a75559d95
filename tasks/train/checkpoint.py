"""Checkpoints: written aside, sealed, renamed; safetensors and JSON, never pickle.

Only a folder whose seal holds is resumed from: a killed save or a flipped byte costs the
steps since the checkpoint before it, not the run.
"""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from slipway.errors import SlipwayError
from tasks import sums

KEPT = 2
"""Complete checkpoints kept: the newest, and one more in case the disk damaged it."""


@dataclass
class State:
    """Where training stands, and what it saw on the way."""

    step: int = 0
    best_step: int = 0
    best: float | None = None
    """The stopping measure at `best_step`; None before the first evaluation."""
    worse_in_a_row: int = 0
    steps: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)


Tensors = dict[str, Tensor]


def save(folder: Path, state: State, tensors: dict[str, Tensors]) -> None:
    """Write one checkpoint and drop those no longer needed."""
    target = folder / f"step-{state.step:08}"
    aside = folder / f"{target.name}.new"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, part in tensors.items():
        plain = {k: v.detach().contiguous().cpu() for k, v in part.items()}
        save_file(plain, aside / f"{name}.safetensors")
    (aside / "state.json").write_text(json.dumps(asdict(state)), "utf-8")
    sums.write(aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    for old in _folders(folder)[KEPT:]:
        shutil.rmtree(old)


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint whose seal holds."""
    for path in _folders(folder):
        try:
            sums.check(path)
        except SlipwayError:
            continue
        return path
    return None


def load(path: Path) -> tuple[State, dict[str, Tensors]]:
    """Read a checkpoint: where training stood, and the tensors under their names."""
    state = State(**json.loads((path / "state.json").read_text("utf-8")))
    return state, {file.stem: load_file(file) for file in path.glob("*.safetensors")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """Flatten an optimizer's moments to named tensors."""
    moments = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, part in moments.items() for name, value in part.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put the moments back."""
    moments: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _folders(folder: Path) -> list[Path]:
    """List checkpoints, newest first; names that are still being written end in .new."""
    return sorted((p for p in folder.glob("step-*") if not p.suffix), reverse=True)
