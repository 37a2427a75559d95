"""Train the network in one process per GPU, or several on the CPU.

Checkpoints live outside the stage's outputs, which DVC deletes before every run, in a folder
named by everything that decides the training: a run that was killed goes on from its last
complete checkpoint to the same bits, and another configuration never finds it.
"""

import hashlib
import json
import tempfile
from pathlib import Path

from slipway import problem
from slipway.config import TrainConfig
from slipway.errors import SlipwayError
from tasks import shards
from tasks.checkpoints import Checkpoints
from tasks.models import find_source
from tasks.train import failure
from tasks.train.job import TrainingJob, write_job
from tasks.train.launch import local
from tasks.train.launch.launcher import TrainingLauncher

NETWORK = "network"
FAMILIES = (NETWORK,)
"""Whose weights are made."""


def run(
    config: TrainConfig,
    launcher: TrainingLauncher = local.launch,
    *,
    prepared: Path,
    weights: Path,
    training_report: Path,
    checkpoints: Checkpoints,
) -> None:
    """Train until early stopping or the last epoch; write the best weights and the curves."""
    with checkpoints.kept(input_digest(config, prepared)[:16]) as folder:
        job = TrainingJob(
            config=config,
            family=NETWORK,
            prepared=prepared,
            weights=weights,
            report=training_report,
            checkpoints=folder,
        )
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "job.json"
            write_job(path, job)
            failure.prepare(path, config.processes)
            exit_code = launcher(path, processes=config.processes, threads=config.threads)
            if exit_code:
                raise SlipwayError(_explain(exit_code, failure.cause(path, config.processes)))
    history = json.loads((training_report / "history.json").read_text("utf-8"))
    if "diverged_at" in history:
        raise SlipwayError(
            f"training diverged: the loss was not finite at step {history['diverged_at']}; lower"
            f" train.learning_rate (now {config.learning_rate}) or lengthen train.warmup_steps"
        )


def _explain(exit_code: int, found: failure.Failure | None) -> str:
    """Say why a training failed: what its first rank failed by."""
    if found is None:
        return f"training ended with exit code {exit_code} and no rank could say why"
    again = f", at the last of {found.attempt + 1} tries" if found.attempt else ""
    return f"training failed in rank {found.rank}{again}: {found.message}"


def input_digest(config: TrainConfig, prepared: Path) -> str:
    """Hash what decides the training: rows, section, code and the torch version."""
    from importlib.metadata import version

    digest = hashlib.sha256(version("torch").encode())
    digest.update(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode())
    digest.update((prepared / "SHA256SUMS").read_bytes())
    for path in code_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def code_files() -> list[Path]:
    """List the code that decides the training: how it is started, loop, family, rows, measure."""
    folders = [Path(module).parent for module in (__file__, problem.__file__)]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [*files, find_source(NETWORK), Path(shards.__file__)]
