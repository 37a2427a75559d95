"""Let a stage stand back behind what serves on the same machine."""

import ctypes
import os
import platform

NR_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
"""The system call's number, which the C library has no function for (ioprio_set(2))."""

WHO_PROCESS, BEST_EFFORT, LOWEST = 1, 2, 7
CLASS_SHIFT = 13


def stand_back(nice: int) -> None:
    """Take a lower priority for this process and what it starts: of the CPU, and of disks.

    `nice`: 0 to 19, as nice(1) takes it; 0 changes nothing. Priorities are never raised again.
    """
    if not nice:
        return
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    if (number := NR_IOPRIO_SET.get(platform.machine())) is not None:
        # a scheduler without priorities takes no notice; a refusal is no reason to stop
        ctypes.CDLL(None).syscall(number, WHO_PROCESS, 0, BEST_EFFORT << CLASS_SHIFT | LOWEST)
