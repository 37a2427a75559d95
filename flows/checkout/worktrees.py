"""Give a scheduled or triggered run a git worktree of its own, and clear it away afterwards.

A run that nobody watches must not work in the tree that somebody edits: it would train, sign and
release what is half-finished. So it starts from a commit, beside the others' trees, with the
repository's state (`.slipway/`) and DVC cache, and leaves its results as commits.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from flows.checkout.commands import attempt, git, succeeds
from flows.checkout.merge import merge
from slipway.errors import SlipwayError
from slipway.remotes import load_remote_config
from slipway.runs.record import new_id
from slipway.state import repository_state, share_state

Say = Callable[[str], None]

FOLDER = "worktrees"
"""In the state folder: one folder per worktree, and beside it what it is for."""

RESULTS = "slipway/main"
"""The branch that collects what runs released. People merge it into theirs."""

KEEP_DAYS = 7.0
"""How long a crashed run's worktree is kept to be looked at."""

DAY_S = 86_400.0

NONE_MATCHES = 2
"""The exit code of `git ls-remote --exit-code` for a branch that a remote does not have."""


class Worktree(BaseModel):
    """One run's worktree."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """That of the run as well."""
    repository: Path
    """The project in the checkout whose worker runs this."""
    top: Path
    """The worktree's folder."""
    root: Path
    """The project in it."""
    base: str
    """The commit of the branch that it follows."""
    start: str
    """The commit that the run starts from: that, and what earlier runs released."""
    follows: str
    """The branch that this is the tip of."""
    results: str
    """The branch that the run's results are merged into."""

    @property
    def branch(self) -> str:
        """The run's own branch."""
        return f"slipway/run-{self.id}"


def add(
    repository: Path, say: Say, *, follows: str | None = None, results: str = RESULTS
) -> Worktree:
    """Make the worktree of a run that starts now, at the newest commit of the branch it follows.

    What earlier runs released and nobody has merged yet is merged first, so that it is not built
    again. Raise SlipwayError, with nothing left behind, where that cannot be done.
    """
    follows = follows or _current_branch(repository)
    require_free(repository, results)
    base = _newest(repository, follows, say)
    id_ = new_id(repository, secrets.token_hex(2))
    top = share_state(repository) / FOLDER / id_
    prefix = git(repository, "rev-parse", "--show-prefix")
    tree = Worktree(
        id=id_,
        repository=repository,
        top=top,
        root=top / prefix,
        base=base,
        start=base,
        follows=follows,
        results=results,
    )
    top.parent.mkdir(parents=True, exist_ok=True)
    git(repository, "worktree", "add", "--quiet", "-b", tree.branch, str(top), base)
    try:
        share_state(tree.root)
        _share_cache(repository, tree.root)
        ahead = [each for each in (results, _fetch_results(tree, say)) if _is_commit(tree, each)]
        for each in ahead:
            merge(tree.root, each, f"Merge {each} into run {id_}", say)
        if ahead:
            tree = tree.model_copy(update={"start": git(tree.root, "rev-parse", "HEAD")})
        _note(tree).write_text(tree.model_dump_json(indent=2), "utf-8")
    except BaseException:
        remove(tree)
        git(repository, "branch", "-D", tree.branch)
        raise
    return tree


def find(root: Path) -> Worktree | None:
    """Return the worktree that a project's folder is in, if a run has it to itself."""
    folder = repository_state(root) / FOLDER
    for parent in (root.resolve(), *root.resolve().parents):
        if parent.parent == folder:
            return _read(folder / f"{parent.name}.json")
    return None


def remove(tree: Worktree) -> None:
    """Remove a worktree; its branch stays."""
    attempt(tree.repository, "worktree", "remove", "--force", str(tree.top))
    shutil.rmtree(tree.top, ignore_errors=True)
    attempt(tree.repository, "worktree", "prune")
    _note(tree).unlink(missing_ok=True)


def remove_old(repository: Path, say: Say, keep_days: float = KEEP_DAYS) -> None:
    """Remove the worktrees that crashed runs left longer ago, and nothing works in any more."""
    folder = repository_state(repository) / FOLDER
    for note in sorted(folder.glob("*.json")):
        tree = _read(note)
        too_old = time.time() - note.stat().st_mtime > keep_days * DAY_S
        if tree is not None and too_old and not _in_use(tree.top):
            remove(tree)
            drop_branch(tree)
            say(f"removed the worktree of run {tree.id}, which did not end by itself")


def drop_branch(tree: Worktree) -> None:
    """Remove a run's branch that holds nothing of its own: it was merged, or nothing was made."""
    holders = [f"refs/heads/{tree.results}", tree.start]
    if any(
        succeeds(tree.repository, "merge-base", "--is-ancestor", tree.branch, h) for h in holders
    ):
        attempt(tree.repository, "branch", "-D", tree.branch)


def require_free(repository: Path, branch: str) -> None:
    """Refuse a results branch that is checked out: it would move under whoever works there."""
    listed = git(repository, "worktree", "list", "--porcelain").split("\n\n")
    for entry in listed:
        lines = entry.splitlines()
        if f"branch refs/heads/{branch}" in lines:
            where = lines[0].removeprefix("worktree ")
            raise SlipwayError(
                f"{branch}, which collects what runs release, is checked out in {where}: switch to"
                f" another branch there, and merge {branch} into that (slipway merge)"
            )


def require_repository(root: Path) -> None:
    """Refuse a folder that is in no git repository: no scheduled run could start there."""
    asked = attempt(root, "rev-parse", "--git-dir")
    if not asked.returncode:
        return
    if "not a git repository" not in asked.stderr:
        raise SlipwayError(f"git refuses {root}:\n  {asked.stderr.strip()}")
    raise SlipwayError(
        f"{root} is no git repository, and scheduled runs work from commits:"
        " git init && git add . && git commit -m 'Start'"
    )


def repository_folders(root: Path) -> list[Path]:
    """Return the folders that hold a project's repository: the working tree's, and git's own."""
    require_repository(root)
    common = Path(git(root, "rev-parse", "--path-format=absolute", "--git-common-dir"))
    return [Path(git(root, "rev-parse", "--show-toplevel")), common.parent]


def _current_branch(repository: Path) -> str:
    require_repository(repository)
    name = attempt(repository, "symbolic-ref", "--quiet", "--short", "HEAD").stdout.strip()
    if not name:
        raise SlipwayError(
            f"{repository} is on no branch: say which one runs follow by --branch in prefect.yaml"
        )
    return name


def _newest(repository: Path, branch: str, say: Say) -> str:
    """Fetch a branch where it has an upstream, and return the newer commit of the two."""
    here = attempt(
        repository, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}"
    )
    remote = attempt(repository, "config", f"branch.{branch}.remote").stdout.strip()
    there = ""
    if remote and remote != ".":
        fetched = attempt(repository, "fetch", "--quiet", remote)
        if fetched.returncode:
            why = fetched.stderr.strip()
            say(f"{remote} could not be fetched, so the run takes what is here: {why}")
        ref = attempt(repository, "config", f"branch.{branch}.merge").stdout.strip()
        if attempt(repository, "ls-remote", "--exit-code", remote, ref).returncode == NONE_MATCHES:
            say(
                f"{remote} has no branch {ref.removeprefix('refs/heads/')} any more: the run takes"
                f" {branch} as it was known here. Push it again, or give the branch that runs"
                " follow by --branch in prefect.yaml"
            )
        name = f"{branch}@{{upstream}}"
        upstream = attempt(repository, "rev-parse", "--verify", "--quiet", name)
        there = upstream.stdout.strip()
    mine = here.stdout.strip()
    if not mine and not there:
        raise SlipwayError(f"there is no branch {branch} with a commit in {repository}")
    if mine and there and succeeds(repository, "merge-base", "--is-ancestor", there, mine):
        return mine
    if mine and there and not succeeds(repository, "merge-base", "--is-ancestor", mine, there):
        say(f"{branch} here and in {remote} have gone apart: the run takes {remote}'s")
    return there or mine


def _fetch_results(tree: Worktree, say: Say) -> str:
    """Fetch what other machines released, where the project shares that; return its name here."""
    remote = load_remote_config(tree.root).git
    if remote is None:
        return ""
    name = f"refs/remotes/{remote}/{tree.results}"
    spec = f"+refs/heads/{tree.results}:{name}"
    fetched = attempt(tree.repository, "fetch", "--quiet", remote, spec)
    if fetched.returncode and "couldn't find remote ref" not in fetched.stderr:
        said = (fetched.stderr.strip().splitlines() or ["no reason given"])[-1]
        say(f"{remote} could not be fetched, so the run knows what was released from here: {said}")
    return name


def _is_commit(tree: Worktree, name: str) -> bool:
    return bool(name) and succeeds(
        tree.repository, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"
    )


def _share_cache(repository: Path, root: Path) -> None:
    """Let DVC in a worktree use this repository's cache, remotes, and settings not in git.

    Paths that are relative to the repository stay so: they mean the same place from here.
    """
    from dvc.config_schema import RelPath
    from dvc.repo import Repo

    with Repo(repository) as repo:
        levels = [repo.config.load_one(level) for level in ("repo", "local")]
        cache = RelPath(repo.cache.local_cache_dir)  # DVC writes no absolute path beyond ASCII
    with Repo(root) as repo, repo.config.edit("local") as settings:
        for name, section in levels[1].items():
            settings.setdefault(name, {}).update(section)
        for remote, options in levels[0].get("remote", {}).items():
            if isinstance(options.get("url"), RelPath):
                settings.setdefault("remote", {}).setdefault(remote, {}).setdefault(
                    "url", options["url"]
                )
        settings.setdefault("cache", {})["dir"] = cache


def _in_use(top: Path) -> bool:
    """Tell whether a process works in a folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if Path(os.readlink(entry / "cwd")).is_relative_to(top):
                    return True
    return False


def _note(tree: Worktree) -> Path:
    return tree.top.with_name(f"{tree.id}.json")


def _read(note: Path) -> Worktree | None:
    try:
        return Worktree.model_validate_json(note.read_bytes())
    except (OSError, ValidationError):
        return None
