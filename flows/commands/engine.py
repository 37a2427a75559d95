"""Become Prefect's engine of the flow run that a worker asks for, and end with that worker.

    python -m flows.commands.engine

prefect.yaml has Prefect's worker start this in a run's worktree, where it started its own engine.
"""

import os
import runpy
import sys

from flows.binding import end_with_worker

TELLS = "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS"
"""Prefect 3.8's: whether the engine tells the server itself that its run was cancelled."""


def main() -> None:
    """Run the engine in this process; it takes the run from the environment."""
    end_with_worker()
    os.environ[TELLS] = "true"  # the worker looks every 3 s if it is gone, and tells after that
    sys.argv = ["prefect.engine"]
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
