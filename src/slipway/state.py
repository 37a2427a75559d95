"""The state of a repository: `.slipway/`, the same folder from every git worktree.

Keys, store, hosts, checkpoints and run records belong to the repository. A worktree that somebody
adds, or that a scheduled run works in, gets a link to them: with a folder of its own it would
make keys that no host trusts, and publish where nobody looks.
"""

from pathlib import Path

from slipway.errors import ConfigError

NAME = ".slipway"


def repository_state(root: Path) -> Path:
    """Return where the state of a project's repository lies, whichever worktree `root` is in.

    That is beside the main worktree's files; of a repository without one (`git clone --bare`),
    inside of it. What `git rev-parse --git-common-dir` would say is read from git's own files:
    every command asks for it, and git need not be there.
    """
    root = root.resolve()
    for folder in (root, *root.parents):
        link = folder / ".git"
        if link.is_dir():
            break
        if link.is_file():
            return _common_state(folder, root) or root / NAME
    return root / NAME


def share_state(root: Path) -> Path:
    """Let a linked worktree have the repository's state as its own; return where that is.

    Raise ConfigError for a worktree with a state folder of its own: which one counts is not
    for this to say.
    """
    state, own = repository_state(root), root / NAME
    if own.resolve() == state:
        return state
    if own.is_symlink():
        own.unlink()  # the repository was moved
    elif own.exists():
        raise ConfigError(
            str(own),
            [
                f"this is a git worktree, and the state of its repository is {state}; move this"
                f" folder away (mv {NAME} {NAME}.old), and the repository's takes its place"
            ],
        )
    state.mkdir(parents=True, exist_ok=True)
    own.symlink_to(state)
    return state


def settled(path: Path) -> Path:
    """Return a path below `.slipway` as it is from every worktree, and any other as it is.

    What outlives a worktree, such as a host and its options, must not lead through it.
    """
    for folder in path.parents:
        if folder.name == NAME and folder.is_symlink():
            return folder.resolve() / path.relative_to(folder)
    return path


def _common_state(folder: Path, root: Path) -> Path | None:
    """Follow a worktree's `.git` file; None where it is a submodule's or leads nowhere."""
    try:
        git_dir = folder / (folder / ".git").read_text("utf-8").strip().removeprefix("gitdir: ")
        common = git_dir / (git_dir / "commondir").read_text("utf-8").strip()
    except OSError:
        return None
    common = common.resolve()
    home = common.parent if common.name == ".git" else common
    return home / root.relative_to(folder) / NAME
