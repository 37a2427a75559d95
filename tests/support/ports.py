"""Ports for the servers that tests start."""

import random
import socket

CANDIDATES = range(12_000, 32_000)
"""Below what the kernel gives to connections (from 32,768 on), which come and go by the hundred:
a port of those may be taken between the moment it was found free and the start of a server."""

_given: set[int] = set()
"""What this process was given: a server may yet be about to listen there."""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, none of them twice.

    They are drawn, so that test processes side by side hardly ever meet.
    """
    return [free_port() for _ in range(count)]


def free_port() -> int:
    """Return one such port."""
    draw = random.SystemRandom()
    while True:
        port = draw.choice(CANDIDATES)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
