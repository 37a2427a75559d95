"""Keep a checkout usable after whatever happened to the run before.

One run works in a checkout at a time. Before it starts, what a killed one left is cleared:
processes whose supervisor was killed too, DVC's lock table when it was cut off in the middle
of being written, a dvc.lock likewise. Nothing that a living process owns is touched.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from flows import environment
from flows.dag.lock_file import heal_lock_file
from flows.dag.tree import SUPERVISOR
from flows.environment import WORKSPACE
from slipway.errors import SlipwayError
from slipway.processes.supervise import GRACE_S, stop_tree

Say = Callable[[str], None]

SUPERVISOR_NAME = os.fsencode(Path(*SUPERVISOR.parts[-3:]))
"""As it is called in any worktree."""

GUARD_TIMEOUT_S = 10
"""DVC holds the guard of its lock table for milliseconds."""


@contextmanager
def only_run(root: Path, say: Say) -> Iterator[None]:
    """Hold the checkout for one run; wait for another one that is at work.

    The kernel drops this lock with its process, so a killed run never blocks the next.
    """
    with take_turn(root / ".slipway/run.lock", "run", say):
        yield


def take_turn(path: Path, what: str, say: Say) -> IO[str]:
    """Return a file that this process alone has locked; wait for whoever has it now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+")  # noqa: SIM115  the caller's, as the lock goes with it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        say(f"waiting for another {what} in this checkout (process {file.read().strip()})")
        fcntl.flock(file, fcntl.LOCK_EX)
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def is_locked(path: Path) -> bool:
    """Tell whether a living process holds the lock of a file."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # held, or not ours to look into
        return True
    return False


def recover(root: Path, say: Say) -> None:
    """Clear what a killed run left behind; to be called while holding `only_run`."""
    end_leftovers(root, say)
    heal_lock_table(root, say)
    heal_lock_file(root, say)


def end_leftovers(root: Path, say: Say) -> None:
    """End what an earlier run had started, where its supervisor was killed as well."""
    if left := leftovers(root):
        say(f"ending {len(left)} processes that a killed run left behind")
        stop_tree(lambda: leftovers(root), GRACE_S)


def leftovers(root: Path) -> list[int]:
    """List the processes that should run supervised in this checkout, but do not.

    All that a supervisor runs carries the checkout's path in its environment. While the
    supervisor lives it sees to the end of them itself; another run may own them.
    """
    mark = f"{WORKSPACE}={environment.mark(root)}".encode()
    marked = [pid for pid in _pids() if mark in _read(pid, "environ").split(b"\0")]
    return [pid for pid in marked if not _is_supervised(pid)]


def heal_lock_table(root: Path, say: Say) -> None:
    """Repair `.dvc/tmp/rwlock`, which DVC cannot read after it was cut off while written.

    DVC writes it in place and then fails every command with "JSON structure is corrupted".
    It also takes any process that happens to have a dead owner's id for the owner: common
    after a container's restart. A process younger than the file cannot stand in it.
    """
    table = root / ".dvc/tmp/rwlock"
    with _guard(root):
        if not table.is_file():
            return
        try:
            entries = json.loads(table.read_text("utf-8"))
            kept = _without_the_dead(entries, table.stat().st_mtime)
        except (ValueError, TypeError, AttributeError, KeyError):
            if owners := dvc_commands(root):
                raise SlipwayError(
                    f"{table} is damaged, and DVC is at work here (process"
                    f" {', '.join(map(str, owners))}); wait for it or stop it, then run again"
                ) from None
            table.unlink()
            say("DVC's lock table was cut off by a killed process: cleared")
            return
        if kept != entries:
            aside = table.with_name("rwlock.new")
            aside.write_text(json.dumps(kept), "utf-8")
            aside.replace(table)
            say("DVC's lock table named processes that are gone: cleared")


def values_in_environments(name: str) -> dict[int, str]:
    """Return what a variable says in the environments of this machine's other processes."""
    prefix = f"{name}=".encode()
    found = {}
    for pid in _pids():
        for entry in _read(pid, "environ").split(b"\0"):
            if entry.startswith(prefix):
                found[pid] = entry.removeprefix(prefix).decode("utf-8", "replace")
    return found


def dvc_commands(root: Path) -> list[int]:
    """List the DVC commands at work in this checkout."""
    here = str(root.resolve())
    return [
        pid
        for pid in _pids()
        if _cwd(pid) == here
        and any(Path(os.fsdecode(arg)).name == "dvc" for arg in _read(pid, "cmdline").split(b"\0"))
    ]


def _without_the_dead(entries: dict[str, dict[str, object]], written_at: float) -> object:
    """Drop the entries of processes that are gone or began after the file was written."""

    def alive(owner: dict[str, object]) -> bool:
        began_at = _began_at(int(str(owner["pid"])))
        return began_at is not None and began_at <= written_at + 1

    kept: dict[str, dict[str, object]] = {}
    for mode, paths in entries.items():
        for path, owners in paths.items():
            if isinstance(owners, list):
                left: object = [owner for owner in owners if alive(owner)]
            else:
                left = owners if isinstance(owners, dict) and alive(owners) else None
            if left:
                kept.setdefault(mode, {})[path] = left
    return kept if kept or any(entries.values()) else entries


@contextmanager
def _guard(root: Path) -> Iterator[None]:
    """Hold the lock under which DVC itself reads and writes its lock table."""
    folder = root / ".dvc/tmp"
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + GUARD_TIMEOUT_S
    with open(folder / "rwlock.lock", "a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SlipwayError(
                        f"{file.name} has been held for {GUARD_TIMEOUT_S} s by another process"
                    ) from None
                time.sleep(0.05)
        yield


def _began_at(pid: int) -> float | None:
    """Return when a process began (seconds since 1970), None when it is gone."""
    stat = _read(pid, "stat")
    if not stat or stat.rpartition(b")")[2].split()[0] in (b"Z", b"X"):
        return None
    ticks = int(stat.rpartition(b")")[2].split()[19])  # field 22 of proc(5): starttime
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")


def _is_supervised(pid: int) -> bool:
    """Tell whether a process is a supervisor, or below one."""
    while pid > 1:
        if any(arg.endswith(SUPERVISOR_NAME) for arg in _read(pid, "cmdline").split(b"\0")):
            return True
        stat = _read(pid, "stat").rpartition(b")")[2].split()
        pid = int(stat[1]) if stat else 0
    return False


def _pids() -> list[int]:
    everyone = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in everyone if pid != os.getpid()]


def _read(pid: int, what: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{what}").read_bytes()
    return b""


def _cwd(pid: int) -> str | None:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd")
    return None
