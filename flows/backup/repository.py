"""The git repository: all refs in one bundle, and what every commit says that DVC must hold."""

import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from flows.checkout.commands import attempt, git, succeeds
from slipway.errors import ConfigError, SlipwayError
from slipway.runs.git import git_state
from slipway.wording import scrub

NAMED = re.compile(rb"md5: ([0-9a-f]{32}(?:\.dir)?)\b")
"""How dvc.lock, `*.dvc` and the run-cache name an object. Those of code that git holds are named
the same way; DVC's cache has none of them."""

BATCH_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class GitFacts:
    """What git says of a checkout now."""

    top: Path
    prefix: str
    commit: str
    branch: str | None
    refs: str
    """Digest of every ref."""
    remotes: dict[str, str]
    uncommitted: tuple[str, ...]
    """The first names of what no commit has."""
    uncommitted_count: int


def facts(root: Path) -> GitFacts:
    """Ask git; raise ConfigError where there is no commit to keep."""
    if not succeeds(root, "rev-parse", "--verify", "--quiet", "HEAD"):
        raise ConfigError(
            str(root), ["git has no commit here, so nothing to keep: git add, then git commit"]
        )
    if git(root, "rev-parse", "--is-shallow-repository") == "true":
        raise ConfigError(
            str(root), ["this is a shallow clone, which is no whole copy: git fetch --unshallow"]
        )
    state = git_state(root)
    branch = attempt(root, "symbolic-ref", "--quiet", "--short", "HEAD").stdout.strip()
    refs = git(root, "for-each-ref", "--format=%(objectname) %(refname)")
    commit = git(root, "rev-parse", "HEAD")
    changed = (*(["dvc.lock"] if state.dvc_lock_changed else []), *state.changed)
    return GitFacts(
        top=Path(git(root, "rev-parse", "--show-toplevel")),
        prefix=git(root, "rev-parse", "--show-prefix").rstrip("/"),
        commit=commit,
        branch=branch or None,
        refs=hashlib.sha256(f"{commit} {branch}\n{refs}".encode()).hexdigest(),
        remotes=_remotes(root),
        uncommitted=changed,
        uncommitted_count=state.changed_count + state.dvc_lock_changed,
    )


def _remotes(root: Path) -> dict[str, str]:
    answer = attempt(root, "config", "--get-regexp", r"^remote\..*\.url$").stdout
    pairs = [line.partition(" ")[::2] for line in answer.splitlines()]
    return {key.removeprefix("remote.").removesuffix(".url"): str(scrub(url)) for key, url in pairs}


def write_bundle(root: Path, path: Path) -> None:
    """Write every ref and all that it leads to into one file.

    One thread: the same refs give the same bytes again.
    """
    git(root, "-c", "pack.threads=1", "bundle", "create", "--quiet", str(path), "HEAD", "--all")


def unbundle(bundle: Path, top: Path, *, commit: str, branch: str | None) -> None:
    """Make a repository of a bundle, every ref under its own name, and check its branch out.

    What a clone would do is another thing: it makes others' branches remote ones.
    """
    top.mkdir(parents=True, exist_ok=True)
    git(top, "init", "--quiet", "--initial-branch", "slipway-restore")
    git(top, "fetch", "--quiet", "--no-tags", str(bundle), "+refs/*:refs/*")
    if branch is None:
        git(top, "fetch", "--quiet", "--no-tags", str(bundle), "HEAD")
        git(top, "update-ref", "--no-deref", "HEAD", commit)
    else:
        git(top, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    git(top, "reset", "--quiet", "--hard", commit)
    if branch is None:
        git(top, "checkout", "--quiet", "--detach", commit)


def objects_of_history(root: Path) -> set[str]:
    """Name what DVC holds for any commit of any ref: each version of each dvc.lock and `*.dvc`."""
    listed = git(root, "rev-list", "--all", "HEAD", "--objects")
    blobs = [
        line.partition(" ")[0]
        for line in listed.splitlines()
        if line.endswith((".dvc", "/dvc.lock", " dvc.lock"))
    ]
    return named(_contents(root, blobs)) if blobs else set()


def named(text: bytes) -> set[str]:
    """Return the names of DVC's objects in a text of its own."""
    return {name.decode() for name in NAMED.findall(text)}


def worktrees(root: Path) -> list[Path]:
    """List the checkouts of this repository, each with a dvc.lock of its own."""
    answer = git(root, "worktree", "list", "--porcelain")
    prefix = git(root, "rev-parse", "--show-prefix").rstrip("/")
    tops = [Path(line[9:]) for line in answer.splitlines() if line.startswith("worktree ")]
    return [top / prefix for top in tops if (top / prefix).is_dir()]


def _contents(root: Path, blobs: list[str]) -> bytes:
    command = ["git", "-C", str(root), "cat-file", "--batch"]
    try:
        done = subprocess.run(
            command,
            input="\n".join(blobs).encode() + b"\n",
            capture_output=True,
            timeout=BATCH_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SlipwayError(f"git cat-file failed in {root}: {error}") from None
    return done.stdout
