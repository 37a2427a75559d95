"""Answer again what was answered before: equal inputs to the same version, computed once.

In front of an engine, with the engine's own face. Equal requests in flight share one job, the
flight, which belongs to none of them: it is worth running as long as one of them wants it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from time import perf_counter
from typing import Final, Protocol

import numpy as np

from slipway.host.engine.finish import finish
from slipway.host.engine.job import NEVER, Job, Result, too_late
from slipway.host.engine.queue import Batching
from slipway.host.request.message import Array

ENTRY_BYTES: Final = 1024
"""What an entry takes besides its values: keys, dicts, array heads."""

TEXT_BYTES: Final = 64
"""What a Python str takes besides its characters, and its pointer."""


class BatchingEngine(Protocol):
    """What a cache needs of the engine behind it."""

    @property
    def full(self) -> bool:
        """Whether another job would be refused."""

    @property
    def batching(self) -> Batching:
        """The settings that are in force."""

    @property
    def waiting(self) -> int:
        """Jobs that wait."""

    def submit(self, job: Job) -> None:
        """Run a job and finish it later."""

    def close(self) -> None:
        """Take no more jobs."""


class CacheCounts(Protocol):
    """What became of requests, per version."""

    cache_hits: int
    cache_misses: int
    cache_coalesced: int
    """Waited for an equal one in flight."""


class Cache:
    """Answers by version and digest of the inputs, the least recently used dropped first."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes: Final = size_bytes
        self.used_bytes = 0
        self._entries: OrderedDict[tuple[str, bytes], tuple[Mapping[str, Array], int]] = (
            OrderedDict()
        )

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, version: str, digest: bytes) -> Mapping[str, Array] | None:
        """Return the answer, which nobody can write to, or None."""
        entry = self._entries.get((version, digest))
        if entry is None:
            return None
        self._entries.move_to_end((version, digest))
        return entry[0]

    def keep(self, version: str, digest: bytes, answer: Mapping[str, Array]) -> None:
        """Keep a copy: an answer is a view that would hold its whole batch in memory."""
        size = ENTRY_BYTES + sum(_size(values) for values in answer.values())
        if size > self.size_bytes or (version, digest) in self._entries:
            return
        copies = {name: np.array(values) for name, values in answer.items()}
        for values in copies.values():
            values.flags.writeable = False
        self._entries[version, digest] = (copies, size)
        self.used_bytes += size
        while self.used_bytes > self.size_bytes:
            self.used_bytes -= self._entries.popitem(last=False)[1][1]

    def forget(self, version: str) -> None:
        """Drop what a version answered; it was unloaded."""
        for key in [key for key in self._entries if key[0] == version]:
            self.used_bytes -= self._entries.pop(key)[1]


@dataclass(slots=True, eq=False)
class _Flight:
    """One digest that is being computed, and who waits for it."""

    digest: bytes
    job: Job
    waiting: list[Job] = field(default_factory=list)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)


class CachedEngine:
    """An engine whose answers are kept."""

    def __init__(
        self, engine: BatchingEngine, cache: Cache, version: str, counts: CacheCounts
    ) -> None:
        self._counts = counts
        self._engine = engine
        self._cache = cache
        self._version = version
        self._closed = False
        self._flights: dict[bytes, _Flight] = {}
        self._found: list[tuple[Job, Mapping[str, Array]]] = []

    @property
    def full(self) -> bool:
        """Whether a job that has to be computed would be refused."""
        return self._engine.full

    @property
    def batching(self) -> Batching:
        """The settings that are in force."""
        return self._engine.batching

    @property
    def waiting(self) -> int:
        """Jobs that wait to be computed."""
        return self._engine.waiting

    def submit(self, job: Job) -> None:
        """Answer from the cache in the next turn of the loop, or with an equal job, or run it."""
        digest = digest_inputs(job.inputs)
        if (answer := self._cache.find(self._version, digest)) is not None:
            self._counts.cache_hits += 1
            if not self._found:
                asyncio.get_running_loop().call_soon(self._give_found)
            self._found.append((job, answer))
        elif (flight := self._flights.get(digest)) is not None:
            self._counts.cache_coalesced += 1
            self._join(flight, job)
        else:
            self._fly(digest, job)
            self._counts.cache_misses += 1

    def close(self) -> None:
        """Close the engine; what its version answered is forgotten."""
        self._closed = True
        self._engine.close()
        self._cache.forget(self._version)

    def _give_found(self) -> None:
        found, self._found = self._found, []
        for job, answer in found:
            finish(job, answer)

    def _fly(self, digest: bytes, job: Job) -> None:
        """Start a flight; a refusal is the asker's, who is the only one as yet."""
        flight_job = Job(
            job.inputs,
            job.rows,
            self._land,
            group=job.group,
            arrived=job.arrived,
            deadline=job.deadline,
            high=job.high,
        )
        flight_job.context = flight = _Flight(digest, flight_job)
        self._engine.submit(flight_job)
        self._flights[digest] = flight
        self._board(flight, job)

    def _join(self, flight: _Flight, job: Job) -> None:
        """Wait for a flight; it lasts as long as the most patient of its jobs.

        So the engine no longer watches the deadlines of the others, and they are watched here.
        """
        for each in (job, *flight.waiting) if not flight.timers else (job,):
            if each.deadline != NEVER:
                wait_s = max(0.0, each.deadline - perf_counter())
                loop = asyncio.get_running_loop()
                flight.timers.append(loop.call_later(wait_s, self._miss, flight, each))
        flight.job.deadline = max(flight.job.deadline, job.deadline)
        self._board(flight, job)

    def _board(self, flight: _Flight, job: Job) -> None:
        """Let a job wait, and end the flight when the last one is cancelled."""
        abandon = job.abandon

        def leave(job: Job) -> None:
            self._leave(flight, job)
            if abandon is not None:
                abandon(job)

        job.abandon = leave
        flight.waiting.append(job)

    def _miss(self, flight: _Flight, job: Job) -> None:
        """Refuse a job whose deadline has passed, unless its run has begun."""
        if job in flight.waiting and flight.job.batch is None:
            self._leave(flight, job)
            finish(job, too_late())

    def _leave(self, flight: _Flight, job: Job) -> None:
        if job in flight.waiting:
            flight.waiting.remove(job)
        if not flight.waiting:
            flight.job.cancel()
            self._end(flight)

    def _land(self, job: Job, result: Result) -> None:
        """Give the result to all; keep it if it is an answer. Only one of them has run."""
        flight: _Flight = job.context
        self._end(flight)
        if not isinstance(result, Exception) and not self._closed:
            self._cache.keep(self._version, flight.digest, result)
        waiting, flight.waiting = flight.waiting, []
        for n, each in enumerate(waiting):
            each.batch = job.batch if n == 0 else None
            finish(each, result)

    def _end(self, flight: _Flight) -> None:
        for timer in flight.timers:
            timer.cancel()
        if self._flights.get(flight.digest) is flight:
            del self._flights[flight.digest]


def digest_inputs(inputs: Mapping[str, Array]) -> bytes:
    """Return a digest of names, datatypes, shapes and values, without any ambiguity."""
    digest = blake2b(digest_size=32)
    for name, values in inputs.items():
        digest.update(repr((name, values.dtype.str, values.shape)).encode())
        if values.dtype == object:
            for text in values.ravel():
                data = str(text).encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "little") + data)
        else:
            digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


def _size(values: Array) -> int:
    if values.dtype == object:
        return sum(TEXT_BYTES + 4 * len(str(text)) for text in values.ravel())
    return values.nbytes
