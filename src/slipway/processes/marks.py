"""Name a process so that it is never taken for another one, and tell whether it lives.

Process ids come round again; with the start time and the boot they belong to, they do not.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

STATE, PARENT, START = 0, 1, 19
"""Fields of /proc/PID/stat after the name in brackets (proc_pid_stat(5): 3, 4 and 22)."""

DEAD = {"Z", "X"}
"""States of a process that has ended, whoever has not waited for it yet."""


@dataclass(frozen=True)
class ProcessMark:
    """One process of one machine since one boot."""

    pid: int = 0
    start_ticks: int = 0
    """Since the boot, in the kernel's ticks."""
    boot: str = ""
    host: str = ""


def mark_of(pid: int) -> ProcessMark | None:
    """Name a living process of this machine; None if there is none."""
    if (fields := _stat(pid)) is None:
        return None
    return ProcessMark(pid, int(fields[START]), _boot(), os.uname().nodename)


def lives(mark: ProcessMark) -> bool | None:
    """Tell whether that very process still runs; None for one of another machine."""
    if mark.host != os.uname().nodename:
        return None
    return mark == mark_of(mark.pid)


def parent_of(pid: int) -> int:
    """Return the parent's id, 0 where there is none to be seen."""
    fields = _stat(pid)
    return int(fields[PARENT]) if fields else 0


def first_without(variable: str) -> ProcessMark | None:
    """Find the nearest process above this one that was not born with an environment variable.

    That is the process which set it for those below: DVC, for what DVC gives to its commands,
    whether it was started as `dvc`, as `python -m dvc` or by somebody's own program.
    """
    pid = os.getpid()
    while (pid := parent_of(pid)) > 1:
        try:
            born_with = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:  # another user's
            return None
        if not any(entry.startswith(f"{variable}=".encode()) for entry in born_with):
            return mark_of(pid)
    return None


def _stat(pid: int) -> list[str] | None:
    """Read the fields after the name, which may itself hold spaces and brackets."""
    try:
        text = (PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[STATE] in DEAD else fields


@functools.cache
def _boot() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
