"""Become Prefect's engine of the flow run that a worker asks for, and end with that worker.

    python -m flows.commands.engine

The work pools of configs/pools have a worker start this in a run's stead. It is the checkout's,
where somebody may be at work; the engine forgets that and takes the flow from the run's worktree.
"""

import os
import sys
from collections.abc import Mapping

from flows.binding import end_with_worker
from flows.environment import PROJECT

TELLS = "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS"
"""Prefect 3.8's: whether the engine tells the server itself that its run was cancelled."""


def main() -> None:
    """Become the engine, a program anew in this process; it takes the run from the environment."""
    end_with_worker()
    command = [sys.executable, "-P", "-m", "prefect.engine"]  # -P: nothing from this folder either
    os.execve(sys.executable, command, engine_environment(os.environ))  # noqa: S606  no shell


def engine_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run's engine: nothing in it leads to the checkout's modules."""
    ours = {TELLS: "true"}  # the worker looks every 3 s if it is gone, and tells after that
    if project := env.get(PROJECT):
        known = env.get("PYTHONPATH", "").split(os.pathsep)
        of_checkout = ("", project, os.path.join(project, "src"))
        ours["PYTHONPATH"] = os.pathsep.join(path for path in known if path not in of_checkout)
    return {**env, **ours}


if __name__ == "__main__":
    main()
