"""The programs that Prefect runs: they cause effects, and decide nothing that bytes depend on."""

import sys
from pathlib import Path

# The library that stands beside these flows, and not the one that is installed: in a run's git
# worktree that is of the commit, while what is installed may be the tree that somebody edits.
if (_sources := Path(__file__).resolve().parents[1] / "src").is_dir():
    sys.path.insert(0, str(_sources))
