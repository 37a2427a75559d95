"""Train the network with torchrun: one process per GPU, or several on the CPU.

Checkpoints live outside the stage's outputs, which DVC deletes before every run, in a folder
named by everything that decides the training: a run that was killed goes on from its last
complete checkpoint to the same bits, and another configuration never finds it.
"""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from slipway import problem
from slipway.config import TrainConfig
from slipway.errors import SlipwayError
from tasks import shards
from tasks.models import find_source
from tasks.train.job import Job, write_job

PR_SET_PDEATHSIG = 1

NETWORK = "network"
FAMILIES = (NETWORK,)
"""Whose weights are made."""


def run(
    config: TrainConfig,
    *,
    prepared: Path,
    weights: Path,
    training_report: Path,
    checkpoints: Path,
) -> None:
    """Train until early stopping or the last epoch; write the best weights and the curves."""
    folder = checkpoints / input_digest(config, prepared)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(
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
        exit_code = _torchrun(config.processes, config.threads, path)
        if exit_code:
            raise SlipwayError(f"training failed with exit code {exit_code}; its log is above")
    shutil.rmtree(folder)
    history = json.loads((training_report / "history.json").read_text("utf-8"))
    if "diverged_at" in history:
        raise SlipwayError(
            f"training diverged: the loss was not finite at step {history['diverged_at']}; lower"
            f" train.learning_rate (now {config.learning_rate}) or lengthen train.warmup_steps"
        )


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
    """List the code that decides the training: loop, family, rows, measure."""
    folders = [Path(module).parent for module in (__file__, problem.__file__)]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [*files, find_source(NETWORK), Path(shards.__file__)]


def _torchrun(processes: int, threads: int, job: Path) -> int:
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        # the rendezvous accepts anybody: never on an address that others reach
        *("--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"),
        *(f"--nproc-per-node={processes}", "--max-restarts=2"),
        *("-m", "tasks.train.worker", str(job)),
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "GLOO_SOCKET_IFNAME": "lo",
        # without it the restart after a killed rank hangs (torch 2.13)
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    process = subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _die_with_parent() -> None:
    """Have the kernel stop torchrun (which stops its ranks) when this process is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
