"""Become Prefect's worker of this checkout, after the dead runs of this machine were marked.

    python -m flows.commands.worker [--pool POOL]
    python -m flows.commands.worker --reconcile-only [--dry-run]

A worker that starts after a power cut or `kill -9` finds the run of before still Running, and
the next one Late behind it. No flow run could mend that, as none gets a place; so it is mended
here, before the worker asks for runs.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from flows import environment
from flows.checkout import worktrees
from flows.dag import workspace
from flows.talk import failed
from slipway.errors import ConfigError, SlipwayError, Unavailable

RETRY_S = 2.0
"""Between two tries to reach the server: after a power cut it may need longer than a worker."""


def main(argv: list[str]) -> int:
    """Return only where no worker is to start: 0, or 1 and 2 for what `fail` has said."""
    options = _parse(argv)
    root = Path.cwd()
    environment.be_discreet()
    environment.beat()
    try:
        if options.reconcile_only:
            _reconcile_once(root, options.dry_run)
            return 0
        return _work(root, options.pool)
    except KeyboardInterrupt:
        return 130
    except (SlipwayError, OSError) as error:
        return failed(error)


def _reconcile_once(root: Path, dry_run: bool) -> None:
    """Reconcile with a server that answers; without one, nobody waits for a dead run."""
    if _server() is None:
        _say("no Prefect server is configured (PREFECT_API_URL): no run can wait for a dead one")
        return
    from flows.alive.reconcile import reconcile

    reconcile(root, _say, dry_run=dry_run)


def _work(root: Path, pool: str | None) -> int:
    """Take this checkout's turn as a worker, reconcile, and become Prefect's worker."""
    from flows.alive.reconcile import WORKER_LOCK, worker_name

    pool = _choose(root, pool)
    worktrees.require_repository(root)
    lock = workspace.take_turn(root / WORKER_LOCK, "worker", _say)
    os.set_inheritable(lock.fileno(), True)  # so the lock is kept by what this process becomes
    _reconcile_when_reachable(root, pool)
    _require(pool)
    name = worker_name(root)
    # for the pull step of prefect.yaml, which makes each run a worktree of this repository
    os.environ |= {environment.PROJECT: str(root), environment.PYTHON: sys.executable}
    # for the engine of each run: this interpreter as `python`, and whom it is to end with
    path = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path])
    # Prefect starts it in an empty folder, where no `flows` would be found
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), known]))
    os.environ[environment.WORKER] = str(os.getpid())
    command = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    # a script's `slipway worker &` ignores it, by which Prefect's worker tells itself to stop
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *command, "--name", name])  # noqa: S606  no shell


def _reconcile_when_reachable(root: Path, pool: str) -> None:
    """Reconcile as soon as the server answers, however long that takes."""
    from flows.alive.reconcile import reconcile

    said = ""
    while True:
        try:
            return reconcile(root, _say, as_worker_of=pool)
        except Unavailable as error:
            if str(error) != said:
                said = str(error)
                _say(f"{said}; trying again until it answers")
            time.sleep(RETRY_S)


def _require(pool: str) -> None:
    """Refuse a work pool that this worker cannot serve."""
    from flows.alive.flow_runs import client
    from flows.deployments.server import require_pool

    with client() as connected:
        require_pool(connected, pool)


def _choose(root: Path, pool: str | None) -> str:
    """Return the pool to work for; raise ConfigError with everything that is missing."""
    from flows.alive.reconcile import DEPLOYMENTS, work_pools

    problems = []
    if _server() is None:
        problems.append(
            "no Prefect server is configured: export PREFECT_API_URL=http://HOST:4200/api"
        )
    pools = [pool] if pool else work_pools(root)
    if not pools:
        problems.append(f"{root} has no {DEPLOYMENTS} that names a work pool: give one by --pool")
    if len(pools) > 1:
        problems.append(
            f"{DEPLOYMENTS} names {', '.join(pools)}, and a checkout has one worker, for one pool:"
            " choose that by --pool, and give the others the same, or a clone of their own"
        )
    if problems:
        raise ConfigError("the command line", problems)
    return pools[0]


def _server() -> str | None:
    """Return the server that Prefect's settings name, by environment or profile."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.commands.worker",
        description="Mark dead runs of this machine Crashed, then become Prefect's worker.",
    )
    parser.add_argument("--pool", help="the work pool; that of prefect.yaml if left out")
    parser.add_argument("--reconcile-only", action="store_true", help="start no worker")
    parser.add_argument("--dry-run", action="store_true", help="mark nothing, only say what")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
