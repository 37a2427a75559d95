"""Threads that run the models of a host: the engines take turns, a batch each.

A run releases the GIL, so as many threads as cores keep the cores busy. A thread that is done
takes the next batch itself: between two batches nothing waits for the event loop.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final, Protocol

log = logging.getLogger(__name__)

Work = Callable[[bool], None]
"""Do it; told whether nothing else of the host runs or waits."""


class WorkSource(Protocol):
    """What a thread needs of an engine. All but the work itself runs under the workers' lock."""

    @property
    def waiting(self) -> int:
        """Jobs that wait."""

    def pick(self, idle: int) -> Work | None:
        """Take the next batch, if one may start now; so many other threads are idle."""

    def done(self) -> None:
        """What was picked has been done."""

    def give_up(self) -> None:
        """Refuse what waits: no thread will come for it. On the event loop."""


class Workers:
    """The threads, and the engines that they serve in turn."""

    def __init__(self, threads: int) -> None:
        self.threads: Final = threads
        self.lock: Final = threading.Lock()
        self.closed = False
        self._wanted = threading.Condition(self.lock)
        self._sources: list[WorkSource] = []
        self._running = 0
        self._idle = 0
        self._threads = [
            threading.Thread(target=self._serve, name=f"model-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, source: WorkSource) -> None:
        """Serve another engine."""
        with self.lock:
            self._sources.append(source)

    def remove(self, source: WorkSource) -> None:
        """Serve an engine no longer. Under the lock."""
        self._sources.remove(source)

    def wake(self) -> None:
        """Say that there is something to pick. Under the lock."""
        if self._idle:
            self._wanted.notify()

    def close(self) -> None:
        """End the threads, each after the run that it is in; refuse what waits. On the loop."""
        with self.lock:
            self.closed = True
            self._wanted.notify_all()
            sources, self._sources = self._sources, []
        for source in sources:
            source.give_up()

    def join(self, timeout_s: float) -> bool:
        """Wait until the threads have ended, each so long at most; return whether all have."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self) -> None:
        while (picked := self._next()) is not None:
            source, work, alone = picked
            try:
                work(alone)
            except Exception:
                log.exception("a model's thread met a defect")
            with self.lock:
                self._running -= 1
                source.done()
            del picked, source, work  # an idle thread must not keep an unloaded model

    def _next(self) -> tuple[WorkSource, Work, bool] | None:
        """Return the next work, or None when it is time to end; waits for it."""
        with self.lock:
            while not self.closed:
                if (picked := self._pick()) is not None:
                    self._running += 1
                    return picked
                self._idle += 1
                self._wanted.wait()
                self._idle -= 1
        return None

    def _pick(self) -> tuple[WorkSource, Work, bool] | None:
        """Ask the engines in turn; the one that is served goes to the end of the line."""
        for n, source in enumerate(self._sources):
            work = source.pick(self._idle)
            if work is None:
                continue
            if source in self._sources:
                self._sources.append(self._sources.pop(n))
            more = any(other.waiting for other in self._sources)
            if more:
                self.wake()
            return source, work, not more and not self._running
        return None
