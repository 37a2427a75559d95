"""Take away what a process that opens a foreign model has no use for.

Programs, sockets, other processes, and writing to files: if a model gets hold of the child by a
flaw of the parser, it can still only compute and read. A filter of system calls (seccomp) for
x86-64 and ARM64 that denies these few and lets everything else through; elsewhere, and where
the kernel will not, there is none. It may be called by any thread and holds for all.
"""

import ctypes
import os
import platform
import struct
from typing import Final

NO_NEW_PRIVILEGES: Final = 38
"""prctl(2); without it a filter needs to be root's."""
FILTER, ALL_THREADS = 1, 1
"""SECCOMP_SET_MODE_FILTER and SECCOMP_FILTER_FLAG_TSYNC."""
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""BPF's instructions."""
ALLOW, DENY = 0x7FFF0000, 0x00050001
"""Let it through; fail with EPERM."""
NUMBER, ARCHITECTURE, SECOND, THIRD = 0, 4, 24, 32
"""Where struct seccomp_data holds what is asked, and the second and third argument."""
WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
X32: Final = 0x40000000
"""System calls of the x32 interface bear other numbers, from here on."""

MACHINES: Final = {
    # audit's number, seccomp, open or none, openat, and what is denied: execve execveat socket
    # ptrace process_vm_readv/writev kill pidfd_send_signal io_uring_setup openat2 truncate creat
    # unlink(at) rename(at/2) link(at) symlink(at) chmod fchmodat, where there are both forms
    "x86_64": (0xC000003E, 317, 2, 257, (59, 322, 41, 101, 310, 311, 62, 424, 425, 437, 76, 85,
                                        87, 263, 82, 264, 316, 86, 265, 88, 266, 90, 268)),
    "aarch64": (0xC00000B7, 277, None, 56, (221, 281, 198, 117, 270, 271, 129, 424, 425, 437, 45,
                                           35, 38, 276, 37, 36, 53)),
}  # fmt: skip


def confine() -> bool:
    """Confine this process for good; return whether the kernel took the filter."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    machine = platform.machine()
    if machine not in MACHINES:
        return False
    program = make_filter(machine)
    code = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    call = MACHINES[machine][1]
    return bool(libc.syscall(call, FILTER, ALL_THREADS, ctypes.c_char_p(described)) == 0)


def make_filter(machine: str) -> bytes:
    """Return the filter's program: deny by number, and opening for writing by its flags."""
    architecture, _, plain_open, open_at, denied = MACHINES[machine]
    opens = [(open_at, THIRD)] + ([(plain_open, SECOND)] if plain_open is not None else [])
    body = [
        _step(LOAD, ARCHITECTURE),
        _step(EQUAL, architecture, 1, 0),
        _step(RETURN, DENY),
        _step(LOAD, NUMBER),
        _step(AT_LEAST, X32, 0, 1),
        _step(RETURN, DENY),
    ]
    for number in denied:
        body += [_step(EQUAL, number, 0, 1), _step(RETURN, DENY)]
    for number, flags in opens:
        body += [
            _step(EQUAL, number, 0, 4),
            _step(LOAD, flags),
            _step(ANY_BIT, WRITES, 0, 1),
            _step(RETURN, DENY),
            _step(RETURN, ALLOW),
        ]
    return b"".join([*body, _step(RETURN, ALLOW)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
