"""Merge what scheduled runs released into the branch that is checked out here.

python -m flows.commands.merge [BRANCH]
"""

import argparse
import sys
from pathlib import Path

from flows.checkout.commands import git, succeeds
from flows.checkout.merge import merge
from flows.checkout.worktrees import RESULTS
from flows.talk import failed
from slipway.errors import ConfigError, SlipwayError


def main(argv: list[str]) -> int:
    """Return 0, or what `fail` has said."""
    parser = argparse.ArgumentParser(prog="python -m flows.commands.merge", description=__doc__)
    parser.add_argument("branch", nargs="?", default=RESULTS)
    branch = parser.parse_args(argv).branch
    try:
        _merge(Path.cwd(), branch)
    except (SlipwayError, OSError) as error:
        return failed(error)
    return 0


def _merge(root: Path, branch: str) -> None:
    if not succeeds(root, "rev-parse", "--verify", "--quiet", f"{branch}^{{commit}}"):
        why = "; nothing was released by a scheduled run yet" if branch == RESULTS else ""
        raise ConfigError("the command line", [f"there is no branch {branch!r}{why}"])
    before = git(root, "rev-parse", "HEAD")
    merge(root, branch, f"Merge {branch}", lambda text: print(text, file=sys.stderr))
    after = git(root, "rev-parse", "HEAD")
    if after == before:
        print(f"{branch} was merged before")
        return
    print(git(root, "diff", "--stat", before, after))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
