"""Name a process so that no other is ever taken for it.

A pid alone is recycled. The pid together with the time it started (in clock ticks since
boot, from /proc) and the boot itself is not, and a pidfd opened before both are compared
cannot move to another process afterwards.
"""

import contextlib
import os
import select
import signal
import struct
import time
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from pydantic import BaseModel, ConfigDict

START_TIME_FIELD = 22
"""proc(5): `starttime` is the 22nd field of /proc/PID/stat."""

LISTENS = "0A"
"""The kernel's state of a socket that listens."""


class Process(BaseModel):
    """One process of this machine, as a pid file holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started: int
    boot: str
    command: list[str]


def identify(pid: int, command: list[str]) -> Process | None:
    """Describe a process that runs now; None when it has ended."""
    started = start_time(pid)
    if started is None:
        return None
    return Process(pid=pid, started=started, boot=boot_id(), command=command)


def alive(process: Process) -> bool:
    """Tell whether exactly this process still runs; a zombie does not."""
    return process.boot == boot_id() and start_time(process.pid) == process.started


def start_time(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; None for one that ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name may itself hold spaces and brackets
    state, started = fields[0], fields[START_TIME_FIELD - 3]
    return None if state in "ZX" else int(started)


def boot_id() -> str:
    """Return what the kernel calls the time since this machine was started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def stop(processes: list[Process], grace_s: float) -> list[Process]:
    """Send SIGTERM to all, wait, SIGKILL what is left; return those that had to be killed."""
    with contextlib.ExitStack() as stack:
        handles = {}
        for process in processes:
            if (handle := _open(process)) is not None:
                stack.callback(os.close, handle)
                handles[handle] = process
        _signal(handles, signal.SIGTERM)
        stubborn = _wait(handles, grace_s)
        _signal(stubborn, signal.SIGKILL)
        _wait(stubborn, grace_s)
    for process in processes:  # those that this very process started stay zombies otherwise
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
    return list(stubborn.values())


def listener(port: int) -> str:
    """Say which process listens on a TCP port, as far as this user may see it."""
    end = f":{port:04X}"
    rows = [row for row in _sockets() if row[3] == LISTENS and row[1].endswith(end)]
    inodes = {f"socket:[{row[9]}]" for row in rows}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for link in (folder / "fd").iterdir():
                if os.readlink(link) in inodes:
                    name = (folder / "comm").read_text("utf-8").strip()
                    return f"process {folder.name} ({name})"
    return "another process"


def users_behind(server: tuple[str, int], client: tuple[str, int]) -> set[int]:
    """Return the users at the other end of a TCP connection within this machine.

    That is who listens there, or who closed the listener after he had taken the connection. A
    listener of just this address has it, however many others listen on all addresses.
    """
    return users_among(_sockets(), server, client)


def users_among(
    rows: list[list[str]], server: tuple[str, int], client: tuple[str, int]
) -> set[int]:
    """Find those users among the kernel's rows of sockets."""
    here, there = _written(*server), _written(*client)
    everywhere = _written("0.0.0.0", server[1]) | _written("::", server[1])  # noqa: S104 - not bound
    taken = [row for row in rows if row[1] in here and row[2] in there]
    listening = [row for row in rows if row[3] == LISTENS]
    exact = [row for row in listening if row[1] in here]
    listening = exact or [row for row in listening if row[1] in everywhere]
    return {int(row[7]) for row in taken + listening}


def _open(process: Process) -> int | None:
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if alive(process):
        return handle
    os.close(handle)
    return None


def _signal(handles: dict[int, Process], number: signal.Signals) -> None:
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _wait(handles: dict[int, Process], timeout_s: float) -> dict[int, Process]:
    """Wait until all have ended; return those that have not."""
    left = dict(handles)
    poll = select.poll()
    for handle in left:
        poll.register(handle, select.POLLIN)  # a pidfd is readable once its process ended
    deadline = time.monotonic() + timeout_s
    while left and (remaining := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(remaining * 1000):
            poll.unregister(handle)
            left.pop(handle)
    return left


def _sockets() -> list[list[str]]:
    """Return the kernel's rows of TCP sockets: 1 is the address, 2 the other end's, 7 the user."""
    rows: list[str] = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            rows += Path(table).read_text("ascii").splitlines()[1:]
    return [row.split() for row in rows]


def _written(address: str, port: int) -> set[str]:
    """Write an address as these rows do, words in this machine's order; IPv4 also within IPv6."""
    ip = ip_address(address)
    forms: list[IPv4Address | IPv6Address] = [ip]
    if ip.version == 4:
        forms.append(IPv6Address(f"::ffff:{ip}"))
    words = [struct.unpack(f"={len(form.packed) // 4}I", form.packed) for form in forms]
    return {"".join(f"{word:08X}" for word in each) + f":{port:04X}" for each in words}
