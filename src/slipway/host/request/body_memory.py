"""What the bodies of all requests may take together, whatever transport brings them.

A body counts from its first byte until its request is answered, by the bytes that are here and
not by the length that somebody announced: an announcement costs nothing.
"""

from typing import Final

from slipway.host.request.refusal import RequestRefused

BODY_MEMORY_BYTES: Final = 512 * 1024 * 1024
"""Room for 32 of the largest bodies at once, and for many thousands of the usual ones."""

FREE_BYTES: Final = 16 * 1024
"""What each connection may hold uncounted: small requests are answered when all room is taken, and
are not slowed by counting. At most 64 MiB for the 4,096 connections of a port."""


class BodyMemory:
    """The room that all connections share."""

    def __init__(self, size_bytes: int = BODY_MEMORY_BYTES, free_bytes: int = FREE_BYTES) -> None:
        self.size_bytes = size_bytes
        self.free_bytes = free_bytes
        self.held_bytes = 0
        """What is taken, without what is free for each connection."""


class BodyAccount:
    """What one connection holds of it; everything that was taken is given back exactly once."""

    __slots__ = ("_memory", "_taken")

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._taken = 0

    def take(self, size: int) -> None:
        """Take room; raise RequestRefused, and take none, when there is not enough."""
        memory, taken = self._memory, self._taken + size
        if taken > memory.free_bytes:
            counted = taken - max(self._taken, memory.free_bytes)
            if memory.held_bytes + counted > memory.size_bytes:
                raise RequestRefused("queue_full", "too much is being received; try again")
            memory.held_bytes += counted
        self._taken = taken

    def give_back(self, size: int) -> None:
        """Give room back."""
        before = self._taken
        self._taken -= size
        self._memory.held_bytes -= max(0, before - max(self._taken, self._memory.free_bytes))
