"""Run git where it changes something: what it says goes into the error."""

import os
import subprocess
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.state import NAME

TIMEOUT_S = 120.0
"""For a fetch; what works on this machine takes milliseconds."""

AUTHOR = {
    "GIT_AUTHOR_NAME": "slipway",
    "GIT_AUTHOR_EMAIL": "slipway@localhost",
    "GIT_COMMITTER_NAME": "slipway",
    "GIT_COMMITTER_EMAIL": "slipway@localhost",
}
"""A run commits in its own name, on machines where nobody told git theirs."""

QUIET = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "commit.gpgSign=false"),
    *("-c", "gc.auto=0"),
    *("-c", "core.quotePath=false"),
)
"""A team's hooks are for people's commits; a run has no key to sign with; paths are themselves."""


def git(root: Path, *arguments: str) -> str:
    """Return what a git command says; raise SlipwayError with its own words when it fails."""
    done = attempt(root, *arguments)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        shown = "\n  ".join(said[-5:])
        raise SlipwayError(f"git {' '.join(arguments)} failed in {root}:\n  {shown}")
    return done.stdout.rstrip("\n")


def succeeds(root: Path, *arguments: str) -> bool:
    """Tell whether a git command ends with exit code 0: many are questions."""
    return attempt(root, *arguments).returncode == 0


def attempt(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run git, whatever becomes of it."""
    # inside a hook, git's own variables point at another repository
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env["GIT_TERMINAL_PROMPT"] = "0"  # nobody is there to type a password
    env["LC_ALL"] = "C.UTF-8"  # what it says is read
    if f"/{NAME}/worktrees/" in f"{root.resolve()}/":
        env |= AUTHOR
    command = ["git", "-C", str(root), *QUIET, *arguments]
    try:
        return subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise SlipwayError(
            "git is not installed, and scheduled runs work in a git worktree of their own"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlipwayError(f"git {arguments[0]} did not end within {TIMEOUT_S:.0f} s") from None
