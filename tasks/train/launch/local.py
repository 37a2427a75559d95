"""Train with torchrun on this machine: one process per GPU, or several on the CPU."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def launch(job: Path, *, processes: int, threads: int) -> int:
    """Run the job's ranks under torchrun, which replaces those that die; return its exit code."""
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
