"""Carry records from the event loop to a thread that may be slow, and never the other way.

Handing over is an append to a list of limited length: it never waits, and it does not wake the
thread either, which looks by itself every so often. Waking it for each record would cost a
request more than all that is recorded about it.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

LOOK_S: Final = 0.1
AT_ONCE: Final = 1000
"""Records per write: enough to make one system call cheap, few enough to stop in time."""


class Sink(Generic[T]):
    """A bounded queue and the daemon thread that empties it."""

    def __init__(
        self,
        name: str,
        write: Callable[[list[T]], None],
        waiting_max: int,
        look_s: float = LOOK_S,
    ) -> None:
        self._name = name
        self._write = write
        self._waiting: deque[T] = deque()
        self._waiting_max = waiting_max
        self._look_s = look_s
        self._refused = 0  # counted by the event loop alone
        self._failed = 0  # and this by the thread, so that neither needs a lock
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many records were lost, for want of room or because a write failed."""
        return self._refused + self._failed

    def put(self, record: T) -> bool:
        """Take a record, or drop it and return False."""
        if len(self._waiting) >= self._waiting_max:
            self._refused += 1
            return False
        self._waiting.append(record)
        return True

    def close(self, wait_s: float = 1.0) -> None:
        """Write what waits, for a moment at most."""
        self._stop.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(self._look_s)
            self._empty()

    def _empty(self) -> None:
        """Write all that waits; an empty list tells the writer that time has passed."""
        while records := self._take():
            self._try(records)
        self._try([])

    def _take(self) -> list[T]:
        count = min(len(self._waiting), AT_ONCE)
        return [self._waiting.popleft() for _ in range(count)]

    def _try(self, records: list[T]) -> None:
        """Write; say once, not for every record, that it does not work."""
        try:
            self._write(records)
            self._failing = self._failing and not records
        except Exception:
            self._failed += len(records)
            if not self._failing:
                log.exception("records are lost", extra={"kind": self._name})
            self._failing = True
