"""Make the git worktree that a scheduled or triggered run works in, and print where it is.

    python -m flows.commands.checkout [--branch BRANCH] [--results BRANCH] [--keep-days N]

The pull step of prefect.yaml runs this where the worker was started, and the flow in what it
prints.
"""

import argparse
import os
import sys
from pathlib import Path

from flows import environment
from flows.checkout import worktrees
from flows.talk import failed
from slipway.errors import SlipwayError


def main(argv: list[str]) -> int:
    """Return 0 with the folder on stdout, or what `fail` has said."""
    options = _parse(argv)
    environment.be_discreet()
    repository = Path.cwd()
    if os.environ.get(environment.WORKER) and not os.environ.get(environment.FLOW_RUN):
        print(repository)  # the worker itself, which looks for hooks of a run that is over
        return 0
    try:
        worktrees.remove_old(repository, _say, options.keep_days)
        tree = worktrees.add(repository, _say, follows=options.branch, results=options.results)
    except (SlipwayError, OSError) as error:
        return failed(error)
    print(tree.root)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.commands.checkout",
        description="Make the git worktree of a run; print its folder.",
    )
    parser.add_argument(
        "--branch", help="what runs follow; the branch that is checked out here if left out"
    )
    parser.add_argument(
        "--results", default=worktrees.RESULTS, help="the branch that collects what is released"
    )
    parser.add_argument(
        "--keep-days",
        type=float,
        default=worktrees.KEEP_DAYS,
        help="how long the worktree of a crashed run is kept",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
