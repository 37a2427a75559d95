"""Ask git which commit this checkout is at, and what differs from it.

dvc.lock is told apart: a run that trained anew always changes it, and it is exactly what
the run made. Anything else that changed means that the commit alone does not give the run.
"""

import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipway.wording import scrub

GIT_TIMEOUT_S = 60
CHANGED_SHOWN = 50
"""Names kept of the files that changed; a longer list says no more."""

DVC_LOCK = "dvc.lock"


@dataclass(frozen=True)
class GitState:
    """What git says of a checkout."""

    commit: str | None = None
    dirty: bool = False
    """Whether anything but dvc.lock differs from the commit."""
    changed: tuple[str, ...] = ()
    """The first names of what differs."""
    changed_count: int = 0
    dvc_lock_changed: bool = False
    remote: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values; nothing where git was not asked."""
        return {} if self == NOT_ASKED else asdict(self)


NOT_ASKED = GitState()


def git_state(root: Path) -> GitState:
    """Describe the checkout: commit, whether anything but dvc.lock changed, remote.

    A checkout that git knows no commit of counts as dirty: nothing leads back to its code.
    """
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    changed = _changed(root)
    others = [path for path in changed if path != DVC_LOCK]
    return GitState(
        commit=commit,
        dirty=commit is None or bool(others),
        changed=tuple(others[:CHANGED_SHOWN]),
        changed_count=len(others),
        dvc_lock_changed=DVC_LOCK in changed,
        remote=_remote(root),
    )


def committed(root: Path, name: str) -> str | None:
    """Return a file of the project as the commit has it; None where it has none."""
    return _git(root, "show", f"HEAD:./{name}")


def last_change(root: Path, name: str) -> str:
    """Say which commit changed a file or folder last, and whether it differs from that now."""
    commit = _git(root, "log", "-1", "--format=%h %s", "--", name)
    if not commit:
        return "not in git"
    dirty = _git(root, "status", "--porcelain=v1", "--untracked-files=all", "--", name)
    return f"{commit}{'; changed since, not committed' if dirty else ''}"


def _changed(root: Path) -> list[str]:
    """List what differs from the commit, new files too: Python may import them."""
    output = _git(
        root, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "."
    )
    prefix = _git(root, "rev-parse", "--show-prefix") or ""
    entries = [entry[3:] for entry in (output or "").split("\0") if entry]
    return sorted(path.removeprefix(prefix) for path in entries)


def _remote(root: Path) -> str | None:
    """Give the remote's URL (origin before others) without its credentials.

    From the configuration: `git remote get-url` would apply `insteadOf`, where tokens hide.
    """
    output = _git(root, "config", "--get-regexp", r"^remote\..*\.url$") or ""
    urls = dict(line.partition(" ")[::2] for line in output.splitlines())
    url = urls.get("remote.origin.url") or next(iter(urls.values()), None)
    if url is None:
        return None
    if Path(url).is_absolute() or url.startswith("file:"):
        return Path(url).name  # where a disk has it is nobody else's business
    return scrub(url)


def _git(root: Path, *arguments: str) -> str | None:
    """Run git without touching anything; None where it fails or there is none."""
    # inside a hook, git's own variables point at another repository
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, env=env, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").rstrip("\n")
