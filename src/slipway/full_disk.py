"""Say that a disk is full: which one, how much is free on it, and what makes room.

The kernel's error names no place where a write failed half-way, and libraries wrap it in errors of
their own. So it is recognized by its words as well, and the place is that of the candidates whose
file system has the least room.
"""

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)

WORDS = tuple(os.strerror(number) for number in FULL)
"""In what safetensors, DuckDB, pyarrow and DVC say of it, too."""

TO_DO = "make room (`slipway prune` removes what is kept of old runs), then run again"

MOUNTS = Path("/proc/self/mounts")


def explain(error: BaseException, *candidates: Path) -> str | None:
    """Return what to tell people if an error, or one behind it, is a full disk; else None."""
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in FULL and each.filename is not None:
            return describe([Path(os.fsdecode(each.filename))], quota=each.errno == errno.EDQUOT)
    texts = [str(each) for each in _chain(error)]
    return explain_text(texts, *candidates)


def explain_text(texts: Iterable[str], *candidates: Path) -> str | None:
    """Do the same for the words of a process that has ended."""
    said = [word for text in texts for word in WORDS if word in text]
    if not said:
        return None
    where = [*candidates, *_mounted_below(candidates), Path(tempfile.gettempdir())]
    return describe(where, quota=said[0] == os.strerror(errno.EDQUOT))


def describe(candidates: Iterable[Path], *, quota: bool = False) -> str:
    """Name the file system with the least room among those of some paths."""
    free_bytes, folder = min((_free_bytes(f), f) for f in map(_existing, candidates))
    problem = "the disk quota is used up" if quota else "no space left"
    return (
        f"{problem} on the file system of {folder} ({_mount_point(folder)}):"
        f" {free_bytes:,} bytes are free, which did not suffice; {TO_DO}"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _mounted_below(folders: Iterable[Path]) -> list[Path]:
    """List the file systems of their own that lie in some folders: checkpoints may have one."""
    tops = [folder.resolve() for folder in folders]
    mounts = [Path(entry[1]) for entry in _mounts()]
    return [mount for mount in mounts if any(top in mount.parents for top in tops)]


def _mounts() -> list[list[str]]:
    """Read what is mounted where; nothing where a system does not say."""
    try:
        return [line.split() for line in MOUNTS.read_text("utf-8").splitlines()]
    except OSError:
        return []


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _existing(path: Path) -> Path:
    """Return the nearest folder that is there, as DVC may have taken the last one away."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _mount_point(folder: Path) -> str:
    """Name where the file system of a folder is mounted, and what it is."""
    device = folder.stat().st_dev
    top = folder.resolve()
    while top != top.parent and top.parent.stat().st_dev == device:
        top = top.parent
    source = next((entry[0] for entry in reversed(_mounts()) if entry[1] == str(top)), None)
    return f"{source} at {top}" if source else f"mounted at {top}"
