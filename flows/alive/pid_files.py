"""Keep on disk which process runs a flow run of Prefect's, for as long as it does.

A run that was killed is Running on Prefect's server for ever: nobody is left to say otherwise.
So each run has a pid file, `.slipway/prefect-runs/<flow run>.json`, from its first line to the
end of its process, and holds the file's lock. The kernel drops a lock with its process, and no
reused pid or other container's pids can deceive it. Pid and start time stand in the file too,
as a copied checkout has the files, but not the locks.

What a killed run leaves here is what `flows.alive.reconcile` finds it by.
"""

import atexit
import fcntl
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from flows.dag.workspace import is_locked
from flows.environment import OWN_API
from slipway.fleet.processes import Process, identify
from slipway.state import settled

FOLDER = Path(".slipway/prefect-runs")


class PidFile(BaseModel):
    """The content of a pid file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str
    process: Process


@dataclass(frozen=True)
class HeldFile:
    """A pid file, and whether the lock on it is held."""

    content: PidFile
    locked: bool


def machine() -> str:
    """Name this machine by its id and its host name: clones share one or the other."""
    with suppress(OSError):
        return f"{Path('/etc/machine-id').read_text('ascii').strip()}/{os.uname().nodename}"
    return os.uname().nodename


def hold(root: Path, flow_run: str | None) -> None:
    """Keep a flow run's pid file from now on to the end of this process.

    To the end, as Prefect learns how a run ended only after its last line. An API of this
    run's own has no schedule, and nobody looks there.
    """
    if flow_run is None or os.environ.get(OWN_API):
        return
    process = identify(os.getpid(), sys.argv)
    assert process is not None
    path = _path(root, flow_run)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    file = open(aside, "w", encoding="utf-8")  # noqa: SIM115  the lock goes when it is closed
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(PidFile(machine=machine(), process=process).model_dump_json(indent=2))
    file.flush()
    os.fsync(file.fileno())  # it is there for power cuts
    aside.replace(path)
    atexit.register(_let_go, path, file, os.getpid())


def read(root: Path) -> dict[str, HeldFile]:
    """Return the pid files there are, by flow run; one that cannot be read is left out."""
    found = {}
    for path in (root / FOLDER).glob("*.json"):
        with suppress(OSError, ValueError):
            locked = is_locked(path)
            content = PidFile.model_validate_json(path.read_bytes())
            found[str(UUID(path.stem))] = HeldFile(content, locked)
    return found


def forget(root: Path, flow_run: str) -> None:
    """Remove what a flow run that is over left behind."""
    _path(root, flow_run).unlink(missing_ok=True)


def _let_go(path: Path, file: IO[str], owner: int) -> None:
    if os.getpid() == owner:  # not in a child that was forked
        path.unlink(missing_ok=True)
    file.close()


def _path(root: Path, flow_run: str) -> Path:
    return settled(root / FOLDER / f"{flow_run}.json")  # a run's worktree goes before its process
