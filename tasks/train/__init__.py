"""Make a family's model: fit it here, or train it in one process per GPU, or several on the CPU.

Checkpoints of a training live outside the stage's outputs, which DVC deletes before every run, in
a folder named by everything that decides the training: a run that was killed goes on from its last
complete checkpoint to the same bits, and another configuration never finds it.
"""

import hashlib
import json
import tempfile
from pathlib import Path

from slipway import problem, statistics
from slipway.errors import SlipwayError
from slipway.problem import PROBLEMS
from slipway.settings.families import FamiliesConfig, NetworkConfig, TreesConfig
from tasks import shards
from tasks.checkpoints import Checkpoints
from tasks.models import find_source, load_fitted_family, write_off
from tasks.progress import track
from tasks.train import failure
from tasks.train.job import TrainingJob, write_job
from tasks.train.launch import local
from tasks.train.launch.launcher import TrainingLauncher

GRAPH = "graph.py"
"""Makes a family's graph after it was trained: an edit of it trains nothing anew."""


def run(
    config: NetworkConfig | TreesConfig | FamiliesConfig,
    launcher: TrainingLauncher = local.launch,
    *,
    family: str,
    prepared: Path,
    weights: Path,
    training_report: Path,
    checkpoints: Checkpoints,
) -> None:
    """Train until early stopping or the last round; write the best model and the curves."""
    if isinstance(config, FamiliesConfig):  # its own section is `off`
        write_off(weights, training_report)
    elif isinstance(config, TreesConfig):
        fit(config, family, prepared=prepared, weights=weights, training_report=training_report)
    else:
        with checkpoints.kept(input_digest(config, family, prepared)[:16]) as folder:
            job = TrainingJob(
                config=config,
                family=family,
                prepared=prepared,
                weights=weights,
                report=training_report,
                checkpoints=folder,
            )
            train(job, launcher)


def fit(
    config: TreesConfig, family: str, *, prepared: Path, weights: Path, training_report: Path
) -> None:
    """Fit a family that takes one call."""
    features = shards.read_features(prepared)
    target, evaluations = shards.target_of(features), []
    stopping = PROBLEMS[target.problem].stopping.key
    with track(config.iterations, "training") as update:

        def progress(done: int, loss: float) -> None:
            evaluations.append({"step": done, stopping: loss})
            update(done, **{stopping: loss})

        model = load_fitted_family(family).fit(
            config,
            target,
            train=shards.read_train(prepared),
            stop=shards.read_split(prepared, "stop"),
            progress=progress,
        )
    model.save(weights)
    early = model.best_round < config.iterations
    history = {
        "steps": [],
        "evaluations": evaluations,
        "best_step": model.best_round,
        "stopped": f"no better for {config.patience} rounds" if early else "all rounds done",
        "parameters": model.parameters,
        "processes": 1,
    }
    write_history(training_report, history)


def train(job: TrainingJob, launcher: TrainingLauncher) -> None:
    """Let the launcher's processes train; say why where they fail or diverge."""
    config = job.config
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "job.json"
        write_job(path, job)
        failure.prepare(path, config.processes)
        exit_code = launcher(path, processes=config.processes, threads=config.threads)
        if exit_code:
            raise SlipwayError(_explain(exit_code, failure.cause(path, config.processes)))
    history = json.loads((job.report / "history.json").read_text("utf-8"))
    if "diverged_at" in history:
        raise SlipwayError(
            f"training diverged: the loss was not finite at step {history['diverged_at']}; lower"
            f" families.{job.family}.learning_rate (now {config.learning_rate}) or lengthen"
            f" families.{job.family}.warmup_steps"
        )


def write_history(report: Path, history: dict[str, object]) -> None:
    """Write the course of a training."""
    (report / "history.json").write_text(json.dumps(history, indent=1) + "\n", "utf-8")


def _explain(exit_code: int, found: failure.Failure | None) -> str:
    """Say why a training failed: what its first rank failed by."""
    if found is None:
        return f"training ended with exit code {exit_code} and no rank could say why"
    again = f", at the last of {found.attempt + 1} tries" if found.attempt else ""
    return f"training failed in rank {found.rank}{again}: {found.message}"


def input_digest(config: NetworkConfig, family: str, prepared: Path) -> str:
    """Hash what decides the training: rows, section, code and the torch version."""
    from importlib.metadata import version

    digest = hashlib.sha256(version("torch").encode())
    digest.update(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode())
    digest.update((prepared / "SHA256SUMS").read_bytes())
    for path in code_files(family):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def code_files(family: str) -> list[Path]:
    """List the code that decides the training: how it is started, loop, family, rows, measure."""
    modules = [str(module.__file__) for module in (problem, statistics)]
    folders = [find_source(family), *(Path(file).parent for file in (__file__, *modules))]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    files = [path for path in files if path.name != GRAPH]
    return [*files, Path(shards.__file__)]
