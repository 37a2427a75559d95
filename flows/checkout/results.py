"""Bring what a run made back into the repository: as commits of its branch, then of `slipway/main`.

slipway/run-<id>    before the version is published, so that its lineage names a commit that
                    gives it again; of a rejected version it is all that stays
slipway/main        when the release is done
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from flows.checkout.commands import attempt, git, succeeds
from flows.checkout.lock_merge import is_pinned
from flows.checkout.merge import merge
from flows.checkout.worktrees import Worktree, drop_branch, remove, require_free
from slipway.errors import SlipwayError
from slipway.remotes import load_remote_config

Say = Callable[[str], None]

RACES = 20
"""How often another run may be first, each time between a merge and the moment it is recorded."""

NOBODY = "0" * 40
"""To git: a reference that does not exist yet."""


def commit(tree: Worktree, subject: str, facts: Sequence[str]) -> bool:
    """Commit what the run pins to its own branch; return False where it pins nothing new."""
    changed = git(tree.root, "status", "--porcelain=v1", "--no-renames", "-uall", ".").splitlines()
    prefix = git(tree.root, "rev-parse", "--show-prefix")
    paths = [line[3:].strip('"').removeprefix(prefix) for line in changed]
    pinned = [path for path in paths if is_pinned(path)]
    if not pinned:
        return False
    git(tree.root, "add", "--", *pinned)
    git(tree.root, "commit", "--quiet", "-m", subject, "-m", "\n".join(facts))
    return True


def deliver(tree: Worktree, say: Say) -> None:
    """Merge the run's branch into the one that collects results; try again when outrun.

    That branch is moved only from where it was seen, in one step, so no two runs lose each
    other's results.
    """
    name = f"refs/heads/{tree.results}"
    for _ in range(RACES):
        require_free(tree.repository, tree.results)
        seen = attempt(tree.root, "rev-parse", "--verify", "--quiet", name).stdout.strip()
        if seen:
            merge(tree.root, seen, f"Merge {tree.results} into run {tree.id}", say)
        head = git(tree.root, "rev-parse", "HEAD")
        if head == (seen or tree.base):
            return
        reason = f"slipway run {tree.id}"
        if succeeds(tree.root, "update-ref", "-m", reason, name, head, seen or NOBODY):
            say(f"the results are on {tree.results}; merge them into {tree.follows}: slipway merge")
            return
    raise SlipwayError(
        f"{tree.results} moved {RACES} times while run {tree.id} was being merged; its results are"
        f" on {tree.branch}"
    )


def share(tree: Worktree, say: Say) -> None:
    """Push the results where the project says so; what fails is said.

    Where another machine was first, its results are merged into this one's, as from any run.
    """
    remote = load_remote_config(tree.root).git
    if remote is None:
        return
    ours = f"refs/heads/{tree.results}"
    if not succeeds(tree.root, "rev-parse", "--verify", "--quiet", ours):
        return
    theirs = f"refs/remotes/{remote}/{tree.results}"
    for _ in range(RACES):
        pushed = attempt(tree.root, "push", "--quiet", remote, f"{ours}:{ours}")
        if not pushed.returncode:
            return
        spec = f"+refs/heads/{tree.results}:{theirs}"
        fetched = attempt(tree.root, "fetch", "--quiet", remote, spec)
        if fetched.returncode or succeeds(tree.root, "merge-base", "--is-ancestor", theirs, ours):
            said = (pushed.stderr.strip().splitlines() or ["no reason given"])[-1]
            say(f"the results could not be pushed to {remote}: {said}; the next run tries again")
            return
        merge(tree.root, theirs, f"Merge {remote}'s {tree.results} into run {tree.id}", say)
        deliver(tree, say)


def clear_away(tree: Worktree | None) -> None:
    """Remove a run's worktree, from outside of it; one that crashes leaves its own to look at.

    What cannot be removed now is in nobody's way, and goes with the old ones.
    """
    if tree is not None:
        os.chdir(tree.repository)
        with suppress(SlipwayError, OSError):
            remove(tree)
            drop_branch(tree)
