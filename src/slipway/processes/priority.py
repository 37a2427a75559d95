"""Let a stage stand back behind what serves on the same machine."""

import ctypes
import os
import platform
import time
from pathlib import Path

NR_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
"""The system call's number, which the C library has no function for (ioprio_set(2))."""

WHO_PROCESS, BEST_EFFORT, LOWEST = 1, 2, 7
CLASS_SHIFT = 13

AUTOGROUP = Path("/proc/self/autogroup")
"""The session's nice value; no such file where a kernel knows none (sched(7))."""

TRIES, PAUSE_S = 20, 0.15
"""Linux takes one such value in 0.1 s from all who are not root, and refuses the others."""


def stand_back(nice: int) -> None:
    """Take a lower priority for this process and what it starts: of the CPU, and of disks.

    `nice`: 0 to 19, as nice(1) takes it; 0 changes nothing. Priorities are never raised again.
    """
    if not nice:
        return
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    stand_back_as_session()
    if (number := NR_IOPRIO_SET.get(platform.machine())) is not None:
        # a scheduler without priorities takes no notice; a refusal is no reason to stop
        ctypes.CDLL(None).syscall(number, WHO_PROCESS, 0, BEST_EFFORT << CLASS_SHIFT | LOWEST)


def stand_back_as_session() -> None:
    """Have this process's nice value count against other sessions too, in a session of its own.

    Linux shares the CPU among sessions first (autogroups), and a nice value counts within one: a
    training at nice 10 took half of what a host of another session needed. So each process that
    leads a session says it again, as torchrun's ranks do. One that was started from a shell has
    no session to itself, and leaves the shell's alone.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice <= 0 or not _leads_session():
        return
    for _ in range(TRIES):
        try:
            AUTOGROUP.write_text(str(nice))
        except BlockingIOError:
            time.sleep(PAUSE_S)
        except OSError:
            return  # a kernel without autogroups, or one that does not allow it
        else:
            return


def _leads_session() -> bool:
    try:
        os.setsid()
    except PermissionError:  # it leads a process group: that of a session, or of a shell's job
        return os.getsid(0) == os.getpid()
    return True
