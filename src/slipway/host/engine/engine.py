"""Run one loaded version: the seam between the core, which asks, and the session, which computes.

A batch is formed here once there are batches. Today each request is one run, in a thread,
because the event loop may never wait for a model.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Final, Protocol

from slipway.host.message import Array
from slipway.host.refusal import RequestRefused

WORKERS: Final = 2
"""Threads that run models. A run releases the GIL, so two keep two cores busy."""

WAITING_MAX: Final = 256
"""Requests of one version, running and waiting. More wait longer than their callers do."""


class Runs(Protocol):
    """What an engine needs of a session."""

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Return the outputs for one batch."""


class Engine:
    """One session and the requests that wait for it."""

    def __init__(self, session: Runs, pool: Executor, waiting_max: int = WAITING_MAX) -> None:
        self._session = session
        self._pool = pool
        self._waiting_max = waiting_max
        self._waiting = 0

    def submit(self, inputs: dict[str, Array]) -> asyncio.Future[Mapping[str, Array]]:
        """Run the inputs when a thread is free; cancelling the future skips what has not begun."""
        if self._waiting >= self._waiting_max:
            raise RequestRefused("queue_full", "too many requests are waiting; try again")
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, self._session.run, inputs)
        self._waiting += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, future: asyncio.Future[Mapping[str, Array]]) -> None:
        self._waiting -= 1
