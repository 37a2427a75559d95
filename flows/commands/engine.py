"""Become Prefect's engine of the flow run that a worker asks for, and end with that worker.

    python -m flows.commands.engine

prefect.yaml has Prefect's worker start this in a run's worktree, where it started its own engine.
"""

import runpy
import sys

from flows.binding import end_with_worker


def main() -> None:
    """Run the engine in this process; it takes the run from the environment."""
    end_with_worker()
    sys.argv = ["prefect.engine"]
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
