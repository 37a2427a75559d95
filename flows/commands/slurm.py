"""Run a flow run's engine as a Slurm job, in place of a process of the worker's machine.

    python -m flows.commands.slurm [OPTIONS OF SBATCH]

configs/pools/slurm.yaml has Prefect's worker start this in a run's stead. The worker runs where
`sbatch` does, and the nodes see the checkout under the same path. This process stands for the job:
it shows what the job says, ends with it, and has it end when it is told to stop. A job that Slurm
requeues (a node that failed, a preemption) begins the same flow run again, which goes on from the
stages that were finished and the last checkpoint.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from flows.binding import ToldToStop, end_with_worker, hear
from flows.environment import ELSEWHERE, FLOW_RUN, PROJECT, WORKER
from slipway.state import repository_state

INSIDE = "--inside"
"""The job's own part: what Slurm starts on a node."""

LOOK_S = 1.0
"""Between two questions to Slurm."""

UNKNOWN_S = 60.0
"""How long Slurm's controller may not answer, or not know the job, before it counts as lost."""

WAITS = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
WORKS = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"})

OPTION = re.compile(r"(\w+)=(\S*)")
"""In what `scontrol show job --oneliner` prints."""


def main(argv: list[str]) -> int:
    """Submit and follow; return the job's exit code."""
    if argv == [INSIDE]:
        return _be_the_engine()
    run, project = os.environ.get(FLOW_RUN), os.environ.get(PROJECT)
    if not run or not project:
        print("slipway: `slipway worker` has this started, for a flow run", file=sys.stderr)
        return 2
    log = repository_state(Path(project)) / "slurm" / f"{run}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    job = ""
    try:
        hear()
        end_with_worker()
        job = submit(argv, run, Path(project), log)
        return follow(job, log)
    except ToldToStop:
        _cancel(job, name_of(run), log)
        return 128 + signal.SIGTERM
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        print(f"slipway: Slurm does not take the run: {said.strip()}", file=sys.stderr)
        return 1


def name_of(run: str) -> str:
    """Name the job of a flow run."""
    return f"slipway-{run[:8]}"


def submit(options: Sequence[str], run: str, project: Path, log: Path) -> str:
    """Hand the run to Slurm; return the job's number."""
    script = "#!/bin/sh\nexec " + shlex.join([sys.executable, "-m", "flows.commands.slurm", INSIDE])
    command = [
        *("sbatch", "--parsable", "--requeue", "--export=ALL", "--open-mode=append"),
        *(f"--job-name={name_of(run)}", f"--chdir={project}", f"--output={log}"),
        *options,
    ]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=True)
    job = done.stdout.strip().partition(";")[0]
    print(f"submitted as Slurm job {job}; its log: {log}", flush=True)
    return job


def follow(job: str, log: Path) -> int:
    """Show what the job says until it is over; return its exit code."""
    before, shown, answered = "", 0, time.monotonic()
    while True:
        found = look(job)
        shown = _show(log, shown)
        if found is None:
            if time.monotonic() - answered > UNKNOWN_S:
                print(f"slipway: Slurm does not know job {job} any more", file=sys.stderr)
                return 1
        else:
            answered = time.monotonic()
            state = found["JobState"]
            if state in WAITS and state != before:
                print(f"Slurm job {job} waits: {found.get('Reason', '')}", flush=True)
            if state not in WAITS | WORKS:
                _show(log, shown)
                return _ended(job, state, found.get("ExitCode", "1:0"))
            before = state
        time.sleep(LOOK_S)


def look(job: str) -> dict[str, str] | None:
    """Ask Slurm for a job; None where it does not answer, or does not know it."""
    command = ["scontrol", "show", "job", "--oneliner", job]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = dict(OPTION.findall(done.stdout))
    return found if done.returncode == 0 and "JobState" in found else None


def _ended(job: str, state: str, exit_code: str) -> int:
    """Return a process's exit code for Slurm's words."""
    code, _, number = exit_code.partition(":")
    if state == "COMPLETED":
        return 0
    print(f"slipway: Slurm job {job} ended as {state} (exit code {exit_code})", file=sys.stderr)
    return int(code) or (128 + int(number or 0) if number not in ("", "0") else 1)


def _cancel(job: str, name: str, log: Path) -> None:
    """Have Slurm end the job, and wait until it has: it is given Slurm's KillWait to save its work.

    Prefect kills this process when it takes too long; Slurm goes on ending the job. Where the stop
    came while the job was being submitted, only its name is known.
    """
    if not job:
        subprocess.run(["scancel", f"--name={name}"], capture_output=True, check=False)
        return
    shown = log.stat().st_size
    subprocess.run(["scancel", job], capture_output=True, check=False)
    while (found := look(job)) and found["JobState"] in WAITS | WORKS:
        shown = _show(log, shown)
        time.sleep(LOOK_S / 2)
    _show(log, shown)


def _show(log: Path, shown: int) -> int:
    """Print what a log has got since; return how far it was shown."""
    with log.open("rb") as file:
        file.seek(shown)
        text = file.read()
    sys.stdout.write(text.decode("utf-8", "replace"))
    sys.stdout.flush()
    return shown + len(text)


def _be_the_engine() -> int:
    """Become the engine of the run, on the node; no worker of this machine started it."""
    os.environ.pop(WORKER, None)
    os.environ[ELSEWHERE] = "in a job of Slurm"
    for name in ("PREFECT__CONTROL_PORT", "PREFECT__CONTROL_TOKEN"):
        os.environ.pop(name, None)  # of the worker's machine
    from flows.commands.engine import main as engine

    if int(os.environ.get("SLURM_RESTART_COUNT", "0")):
        _begin_again(os.environ[FLOW_RUN])
    engine()
    return 0


def _begin_again(run: str) -> None:
    """Tell the server that a run whose job Slurm has requeued is to run, whatever became of it.

    Pending, as one that a worker has taken: a Scheduled one would be taken, and submitted, again.
    """
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.states import Pending

    with get_client(sync_client=True) as client:
        state: State[None] = Pending(name="Requeued", message="Slurm has requeued its job")
        client.set_flow_run_state(UUID(run), state, force=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
