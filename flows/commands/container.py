"""Run a flow run's engine in a container, in place of a process of the worker's machine.

    python -m flows.commands.container IMAGE [OPTIONS OF PODMAN RUN]

configs/pools/container.yaml has Prefect's worker start this in a run's stead. The image needs
Python with what requirements.lock names, and git; code, data and state are the checkout's, which is
mounted under its own path, and the run has the machine's network. podman is taken where there is
one, docker else. This process stands for the container, and has it end with it.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows import environment
from flows.binding import ToldToStop, end_with_worker, hear
from flows.checkout import worktrees
from slipway.gpu.slots import SLOTS, Slots
from slipway.processes.supervise import die_with_parent

PASSED = ("AWS_", "DVC_", "FSSPEC_", "GX_", "PREFECT", "SLIPWAY_")
"""How the variables begin that a run takes along; others by `--env NAME`."""

KEPT_OUT = (environment.WORKER, "PREFECT__CONTROL_PORT", "PREFECT__CONTROL_TOKEN")
"""What is about a process of the worker's machine."""

STOP_S = 40
"""From SIGTERM to SIGKILL; Prefect itself gives a cancelled run 30 s."""


def main(argv: list[str]) -> int:
    """Start the container and wait for it; return its exit code."""
    run, project = os.environ.get(environment.FLOW_RUN), os.environ.get(environment.PROJECT)
    if not run or not project:
        print("slipway: `slipway worker` has this started, for a flow run", file=sys.stderr)
        return 2
    if not argv or argv[0].startswith("-"):
        print("slipway: name the image first: flows.commands.container IMAGE", file=sys.stderr)
        return 2
    engine = shutil.which("podman") or shutil.which("docker")
    if engine is None:
        print("slipway: there is neither podman nor docker on this machine", file=sys.stderr)
        return 2
    name = f"slipway-{run[:8]}"
    process = None
    try:
        hear()
        end_with_worker()
        command = [engine, *arguments(name, Path(project), argv, os.environ)]
        process = subprocess.Popen(command, preexec_fn=_bind)
        return process.wait()
    except ToldToStop:
        stop = [engine, "stop", "--time", str(STOP_S), name]
        if process is not None:
            if subprocess.run(stop, capture_output=True, check=False).returncode:
                process.terminate()  # there is no container yet: its image is being fetched
            process.wait()
        return 128 + signal.SIGTERM


def arguments(name: str, project: Path, asked: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Return what follows `podman`: the user's options come last, and so count."""
    image, *options = asked
    slots = Slots.here().folder  # whose turn it is on a GPU is the machine's affair
    slots.mkdir(parents=True, exist_ok=True)
    folders = dict.fromkeys([*worktrees.repository_folders(project), slots])
    taken = [each for each in env if each.startswith(PASSED) and each not in KEPT_OUT]
    return [
        *("run", "--rm", "--init", "--network=host", f"--name={name}", f"--workdir={project}"),
        *(f"--volume={folder}:{folder}" for folder in folders),
        *(f"--env={each}" for each in sorted(taken)),
        f"--env={environment.PYTHON}=python",
        f"--env={environment.ELSEWHERE}=in a container",
        f"--env={SLOTS}={slots}",
        *options,
        image,
        *("python", "-m", "flows.commands.engine"),
    ]


def _bind() -> None:
    """Have podman, which passes signals on, told to end when this process is killed."""
    die_with_parent(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
