"""Tell the service manager how this process is doing: the sd_notify protocol, without libsystemd.

One datagram per message to the socket named in the environment. Started by hand there is no
socket and nothing is said. A manager that does not listen must not hold up requests, so a
message that cannot be sent at once is dropped.
"""

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
ALIVE: Final = "WATCHDOG=1"


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send lines such as READY as one message; return whether it went out."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # a name in the kernel alone, no file
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
    return True


def reloading(environ: Mapping[str, str] = os.environ) -> bool:
    """Say that the configuration is being read; READY ends it.

    The time is what tells this message from one of an earlier reload (Type=notify-reload).
    """
    now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    return notify("RELOADING=1", f"MONOTONIC_USEC={now_us}", environ=environ)


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return the seconds after which silence is taken for death; None: nobody watches.

    Send ALIVE at a third of it, from the thing that must be alive: the event loop.
    """
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for the process that started this one
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isascii() and text.isdigit() and int(text) else None
