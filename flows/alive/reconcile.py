"""Mark the dead runs of this machine Crashed, so that Prefect starts the next one.

A run that was killed with its worker is Running for ever, and the work pool and the deployment,
which let in one at a time, keep every later run Late behind it. The server notices nothing by
itself. What is dead is decided in `liveness`; a run that becomes Crashed leaves its place in
both, also where the server was started anew and has lost the lease on it.

To be imported when Prefect's settings are in place.
"""

import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from flows import notices
from flows.alive import flow_runs, pid_files
from flows.alive.flow_runs import FlowRuns
from flows.alive.liveness import Dead, Here, find_dead
from flows.dag import workspace
from flows.environment import FLOW_RUN
from flows.notices import Lost
from slipway.errors import SlipwayError
from slipway.fleet.processes import boot_id, start_time
from slipway.runs import record

Say = Callable[[str], None]

DEPLOYMENTS = "prefect.yaml"

OVER = ("completed", "failed")
CANCELLING = "CANCELLING"

WORKER_LOCK = Path(".slipway/worker.lock")
"""Held by this checkout's worker, from before it asks for runs to its end."""

WORKER_ID = Path(".slipway/worker-id")


def reconcile(
    root: Path, say: Say, *, dry_run: bool = False, as_worker_of: str | None = None
) -> None:
    """Find this machine's dead runs on Prefect's server and mark them Crashed.

    The server is asked before the machine is looked at: what begins in between is not among
    the runs, and what ends in between is not overwritten. Whoever is about to work for a pool,
    and holds the worker's lock, says which.
    """
    with flow_runs.connect() as server:
        pools = {*work_pools(root), *([as_worker_of] if as_worker_of else [])}
        ours, over = server.by_id(sorted(pid_files.read(root)))
        in_pools = [run for pool in pools for run in server.in_pool(pool)]
        beats = {pool: server.beats(pool) for pool in pools}
        here = look_around(root, worker_gone=as_worker_of is not None)
        runs = {run.id: run for run in [*ours, *in_pools]}
        for dead in find_dead(runs.values(), here, beats):
            if _end(root, server, dead, say=say, dry_run=dry_run):
                over.add(dead.run.id)
    for flow_run in over & here.pid_files.keys():
        if not (dry_run or here.pid_files[flow_run].locked):
            pid_files.forget(root, flow_run)


def _end(root: Path, server: FlowRuns, dead: Dead, *, say: Say, dry_run: bool) -> bool:
    """End a dead run on the server, say so and tell people; a dry run only says so.

    One whose record is closed had come to its end, which the server was not there to be told.
    """
    run = dead.run
    entry = record.find_flow_run(root, run.id)
    if entry is not None and entry.run.state in OVER and not dry_run:
        why = entry.run.error or "its end could not be told when it came"
        if server.end(run, why, entry.run.state):
            say(f"flow run {run.name} ({run.id}) had {entry.run.state}: the server knows now")
        return True
    what = f"flow run {run.name} ({run.id}) is {run.state.lower()}, but {dead.reason}"
    if dry_run:
        say(f"{what}: would be marked as dead")
        return False
    if not server.end(run, f"{dead.reason}; seen on {os.uname().nodename}"):
        say(f"{what}: it has just ended")
        return False
    say(f"{what}: marked as dead, its place is free")
    if run.state != CANCELLING:
        notices.tell_crashed(entry, root, Lost(run.id, run.name, dead.reason), say=say)
    return True


def look_around(root: Path, *, worker_gone: bool) -> Here:
    """Gather what this machine knows: pid files, processes, this checkout's worker.

    The worker before the processes: once it is gone, it starts no more of them.
    """
    worker_gone = worker_gone or _worker_gone(root / WORKER_LOCK)
    held = pid_files.read(root)
    started = {pid: start_time(pid) for pid in (h.content.process.pid for h in held.values())}
    return Here(
        machine=pid_files.machine(),
        boot=boot_id(),
        pid_files=held,
        started={pid: ticks for pid, ticks in started.items() if ticks is not None},
        in_processes=frozenset(workspace.values_in_environments(FLOW_RUN).values()),
        worker=worker_name(root),
        worker_gone=worker_gone,
    )


def _worker_gone(lock: Path) -> bool:
    """Tell whether a worker was here and is gone.

    Of another user's worker nothing is known: whether what it started runs can be seen by its
    own user and by root alone.
    """
    ours = lock.is_file() and os.getuid() in (0, lock.stat().st_uid)
    return ours and not workspace.is_locked(lock)


def worker_name(root: Path) -> str:
    """Name this checkout's worker: the same at every start, and nowhere else.

    By a number drawn here as well, as machines made from one image may be alike in all else.
    """
    path = root / WORKER_ID
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError), open(path, "x") as file:
        file.write(secrets.token_hex(8))
    where = f"{path.read_text('ascii')}:{pid_files.machine()}:{root.resolve()}"
    return f"slipway-{os.uname().nodename}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"


class _WorkPool(BaseModel):
    name: str | None = None


class _Deployment(BaseModel):
    work_pool: _WorkPool | None = None


class _Deployments(BaseModel):
    """What is read of prefect.yaml."""

    deployments: list[_Deployment] | None = None


def work_pools(root: Path) -> list[str]:
    """Return the work pools that prefect.yaml names; none where there is no such file."""
    path = root / DEPLOYMENTS
    if not path.is_file():
        return []
    try:
        found = _Deployments.model_validate(yaml.safe_load(path.read_text("utf-8")) or {})
    except (yaml.YAMLError, ValidationError) as error:
        raise SlipwayError(f"{path} cannot be read: {error}") from error
    pools = (deployment.work_pool for deployment in found.deployments or [])
    return sorted({pool.name for pool in pools if pool and pool.name})
