"""Decide which flow runs are dead, from what Prefect's server says and what this machine sees.

Two kinds of evidence, and no third: the run's own pid file, and where it has none (it was
killed before its first line), the worker of this checkout that took it. A run that lives or
may live, and one that another machine may have, are left alone. Reads and writes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from flows.alive.pid_files import HeldFile

SILENCE = timedelta(hours=1)
"""A worker beats every 30 s. One that was last heard of this long before a run was taken did not
take it, whatever the clocks of two machines differ by."""


@dataclass(frozen=True)
class FlowRun:
    """A run that is not over, as Prefect's server has it."""

    id: str
    name: str
    state: str
    """PENDING (taken by a worker), RUNNING or CANCELLING."""
    since: datetime
    """When it came into this state."""
    pool: str | None
    worker: str | None
    """The worker that took it; a worker says so a moment after it did."""


@dataclass(frozen=True)
class Here:
    """What this machine knows about itself and this checkout."""

    machine: str
    boot: str
    pid_files: Mapping[str, HeldFile]
    """By flow run."""
    started: Mapping[int, int]
    """When the processes of the pid files' numbers started, in ticks since boot."""
    in_processes: frozenset[str]
    """Flow runs that processes of this machine were started for, by their environment."""
    worker: str
    """The name of this checkout's worker."""
    worker_gone: bool
    """No process is that worker now."""


@dataclass(frozen=True)
class Dead:
    """A run that is dead, and how that is known."""

    run: FlowRun
    reason: str


Beats = Mapping[str, Mapping[str, datetime]]
"""By work pool: when each of its workers was last heard of."""


def find_dead(runs: Iterable[FlowRun], here: Here, beats: Beats) -> list[Dead]:
    """Return the runs that no process will ever end, each with the reason."""
    found = ((run, why_dead(run, here, beats)) for run in runs)
    return [Dead(run, reason) for run, reason in found if reason]


def why_dead(run: FlowRun, here: Here, beats: Beats) -> str | None:
    """Say why a run is dead; None when it lives or may live."""
    if run.id in here.pid_files:
        return _process_gone(here.pid_files[run.id], here)
    if run.id in here.in_processes or not here.worker_gone or not _was_taken_here(run, here, beats):
        return None
    return "the worker that took it is gone, and no process runs it"


def _process_gone(held: HeldFile, here: Here) -> str | None:
    """Say how the process of a pid file ended; None when it lives or is another machine's."""
    process = held.content.process
    same_boot = process.boot == here.boot  # then it is this machine, even under another name
    if held.locked or not (same_boot or held.content.machine == here.machine):
        return None
    if not same_boot:
        return "the machine was started anew since it began"
    if here.started.get(process.pid) == process.started:
        return None  # a copy of the checkout that it runs in
    return f"its process {process.pid} is gone"


def _was_taken_here(run: FlowRun, here: Here, beats: Beats) -> bool:
    """Tell whether this checkout's worker took a run, and no other can have."""
    if run.worker is not None:
        return run.worker == here.worker
    if run.state != "PENDING" or run.pool is None:
        return False  # nobody's: started by hand
    workers = beats.get(run.pool, {})
    heard_of = {name for name, last in workers.items() if last >= run.since - SILENCE}
    return heard_of == {here.worker}
