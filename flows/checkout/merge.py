"""Merge one branch into another with what runs pin merged by entries, never by lines."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from flows.checkout.commands import attempt, git, succeeds
from flows.checkout.lock_merge import is_pinned, merge_file
from slipway.errors import SlipwayError

Say = Callable[[str], None]


class Conflict(SlipwayError):
    """Files that only a person can merge."""


def merge(root: Path, other: str, message: str, say: Say) -> None:
    """Merge a branch into the one that is checked out here; raise Conflict and undo it else.

    The branch that is checked out counts as the newer one: where both changed an entry, its own
    stays, and that is said.
    """
    if succeeds(root, "merge-base", "--is-ancestor", other, "HEAD"):
        return
    if succeeds(root, "merge-base", "--is-ancestor", "HEAD", other):
        git(root, "merge", "--quiet", "--ff-only", other)
        return
    base = attempt(root, "merge-base", "HEAD", other).stdout.strip()
    ours = git(root, "rev-parse", "HEAD")
    merged = attempt(root, "merge", "--no-commit", "--no-ff", "--allow-unrelated-histories", other)
    if not (root / _git_path(root, "MERGE_HEAD")).exists():
        raise SlipwayError(f"git cannot merge {other} here:\n  {_last(merged)}")
    for path in _pinned(root, ours, other):
        before, mine, others = (_show(root, commit, path) for commit in (base, ours, other))
        done = merge_file(path, base=before, ours=mine, theirs=others)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(done.text, "utf-8")
        git(root, "add", "--", path)
        for name in done.kept:
            say(f"{path}: both changed {name}; that of {_name(root)} is kept")
    if left := git(root, "diff", "--name-only", "--relative", "--diff-filter=U").splitlines():
        git(root, "merge", "--abort")
        raise Conflict(
            f"{other} and {_name(root)} both changed {', '.join(left)}: merge them by hand"
            f" (git merge {other}), commit, and run again"
        )
    git(root, "commit", "--quiet", "-m", message)


def _pinned(root: Path, *commits: str) -> list[str]:
    """List the files of either side that are merged by entries, relative to the project."""
    found = {
        path
        for commit in commits
        for path in git(root, "ls-tree", "-r", "--name-only", commit, ".").splitlines()
    }
    return sorted(filter(is_pinned, found))


def _show(root: Path, commit: str, path: str) -> str:
    return attempt(root, "show", f"{commit}:./{path}").stdout if commit else ""


def _git_path(root: Path, name: str) -> str:
    return git(root, "rev-parse", "--git-path", name)


def _name(root: Path) -> str:
    return git(root, "rev-parse", "--abbrev-ref", "HEAD")


def _last(done: "subprocess.CompletedProcess[str]") -> str:
    return "\n  ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
