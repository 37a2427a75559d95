"""Run one loaded version: from a checked job to its answer, through batches.

Nothing here waits for a timer unless a delay is set: a batch is what came while the model was
busy. A model of a few microseconds a row runs on the event loop, once per turn of it; any other
in the threads that all engines of the host share. See `queue`, `batch`, `bisect`, `workers`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Final

from slipway.host.engine.batch import ROWS, Shapes
from slipway.host.engine.bisect import Admit, Attempts
from slipway.host.engine.finish import finish, finish_all
from slipway.host.engine.job import NEVER, Batch, Job, Result, too_late
from slipway.host.engine.queue import Batching, Queue
from slipway.host.engine.runner import BatchObserver, Runner
from slipway.host.engine.spin import Spin
from slipway.host.engine.tuning import Tuner
from slipway.host.engine.workers import Work, Workers
from slipway.host.request.refusal import RequestRefused

__all__ = ["Admit", "BatchObserver", "Batching", "Engine", "Runner", "Shapes", "Workers"]

log = logging.getLogger(__name__)

TURN_S: Final = 0.005
"""The longest that runs may hold the event loop before it looks at its sockets again."""

SWEEP_S: Final = 0.025
"""Between two looks for passed deadlines while every thread is busy."""

ROOM_S: Final = 0.005
"""Between two searches of a full queue for jobs that nobody waits for any more."""


class Engine:
    """One runner and the jobs that wait for it."""

    def __init__(
        self,
        runner: Runner,
        workers: Workers | None,
        batching: Batching,
        observer: BatchObserver,
        admit: Admit | None = None,
        shapes: Shapes = ROWS,
        tuner: Tuner | None = None,
        spin: Spin | None = None,
    ) -> None:
        self._runner = runner
        self._workers = workers
        self._observer = observer
        self._admit = admit
        self._shapes = shapes
        self._tuner = tuner
        self._spin = spin
        self._queue = Queue(batching, alone=not shapes.batchable)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._armed = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._dropped = False
        self._sweeping = False
        self._searched = 0.0
        self._number = 0
        self._active = 0
        if workers:
            workers.add(self)

    @property
    def batching(self) -> Batching:
        """The settings that are in force."""
        return self._queue.batching

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return self._queue.jobs

    @property
    def full(self) -> bool:
        """Whether another job would be refused."""
        return self._queue.full(1)

    def submit(self, job: Job) -> None:
        """Run a job and finish it later; raise RequestRefused when too many wait. On the loop."""
        if self._closing:
            raise RequestRefused("not_ready", "this version is being unloaded")
        if self._shapes.pads:
            job.group = self._shapes.group(job.inputs)
        if not self._armed:
            self._arm()  # before the job is there: a thread may take it at once
        if not self._queue.offer(job):
            self._make_room(job.rows)
            self._queue.put(job)
        if job.deadline != NEVER and self._workers and not self._sweeping:
            self._watch_deadlines()

    def close(self) -> None:
        """Take no more jobs; those that wait still run, then the runner is closed. On the loop."""
        if self._closing:
            return
        self._closing = True
        if self._workers and not self._workers.closed:
            with self._workers.lock:
                self._workers.wake()
        elif not self._queue.jobs:
            self._drop()

    # --- on the event loop

    def _arm(self) -> None:
        """See to what has come, once everything that this turn of the loop brings is here."""
        self._armed = True
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._hand_over if self._workers else self._turn)

    def _turn(self) -> None:
        """Run what waits, here and now."""
        self._armed = False
        now = perf_counter()
        until = now + TURN_S
        while self._queue.jobs:
            if self._queue.batching.max_delay_us and (ripe := self._queue.ripe_at()) > now:
                self._arm_later(ripe - now)
                return
            late, jobs = self._take(now)
            self._refuse_late(late)
            if jobs:
                batch = self._begin(jobs, now)
                errors: list[Exception] = []
                attempts = Attempts(
                    self._runner.run, self._shapes, self._admit, errors=errors, batch=batch
                )
                results = attempts.answer(jobs)
                now = batch.ended = perf_counter()
                self._finish(batch, jobs, results, errors)
                if self._spin:
                    self._spin.served(len(jobs), batch.started, perf_counter())
            if now > until and self._queue.jobs:
                if not self._armed:
                    self._arm()
                return
        if self._closing:
            self._drop()

    def _arm_later(self, delay_s: float) -> None:
        """See to it when the delay is over; what fills the batch before is seen to at once."""
        if self._timer is None:
            assert self._loop is not None
            self._timer = self._loop.call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if not self._armed:
            self._arm()

    def _hand_over(self) -> None:
        """Wake a thread."""
        self._armed = False
        assert self._workers is not None
        with self._workers.lock:
            wait_s = 0.0
            if self._queue.batching.max_delay_us and self._queue.jobs:
                wait_s = self._queue.ripe_at() - perf_counter()
            if wait_s <= 0:
                self._workers.wake()
        if wait_s > 0:
            self._arm_later(wait_s)

    def _finish(
        self, batch: Batch, jobs: list[Job], results: Sequence[Result], errors: list[Exception]
    ) -> None:
        """Give each job its result, then count the batch."""
        finish_all(jobs, results)
        self._observer.batch(batch, jobs, errors[0] if errors else None)
        if self._tuner:
            self._queue.batching = self._tuner.after(batch, jobs, self._queue.batching)

    def _refuse_late(self, late: Sequence[Job]) -> None:
        for job in late:
            finish(job, too_late())

    def _make_room(self, rows: int) -> None:
        """Drop what nobody waits for, now and then; raise RequestRefused if it is no help."""
        now = perf_counter()
        if now - self._searched > ROOM_S:
            self._searched = now
            self._sweep(now)
        if self._queue.full(rows):
            raise RequestRefused("queue_full", "too many requests are waiting; try again")

    def _sweep(self, now: float) -> None:
        if self._workers:
            with self._workers.lock:
                late = self._queue.sweep(now)
        else:
            late = self._queue.sweep(now)
        self._refuse_late(late)

    def _watch_deadlines(self) -> None:
        """Look for passed deadlines as long as any job has one: the threads may be busy."""
        self._sweeping = True
        asyncio.get_running_loop().call_later(SWEEP_S, self._look)

    def _look(self) -> None:
        self._sweeping = False
        self._sweep(perf_counter())
        if self._queue.earliest != NEVER:
            self._watch_deadlines()

    # --- for the workers

    def pick(self, idle: int) -> Work | None:
        """Take the next batch, or the closing; under the workers' lock."""
        if self._queue.jobs:
            now = perf_counter()
            if self._queue.batching.max_delay_us and self._queue.ripe_at() > now:
                return None
            late, jobs = self._take(now, idle + 1)
            if late or jobs:
                self._active += 1
                return partial(self._run, late, jobs, self._begin(jobs, now) if jobs else None)
        if self._closing and not self._active and not self._queue.jobs:
            assert self._workers is not None
            self._active += 1
            self._workers.remove(self)
            return self._drop
        return None

    def done(self) -> None:
        """Count a batch out; under the workers' lock."""
        self._active -= 1

    def give_up(self) -> None:
        """Refuse what waits."""
        while True:
            late, jobs = self._take(perf_counter())
            if not late and not jobs:
                return
            for job in [*late, *jobs]:
                finish(job, RequestRefused("draining", "this host is stopping"))

    def _take(self, now: float, parts: int = 1) -> tuple[list[Job], list[Job]]:
        """Return what is too late and what runs next."""
        self._queue.sort()
        late = self._queue.sweep(now) if self._queue.earliest <= now else []
        return late, self._queue.take(parts)

    def _begin(self, jobs: list[Job], now: float) -> Batch:
        self._number += 1
        batch = Batch(self._number, 0, len(jobs), now)
        rows = 0
        for job in jobs:
            job.batch = batch
            rows += job.rows
        batch.rows = rows
        return batch

    def _run(self, late: list[Job], jobs: list[Job], batch: Batch | None, alone: bool) -> None:
        """Run one batch in this thread; one message brings all its answers to the loop."""
        if late:
            self._call(partial(self._refuse_late, late))
        if batch is None:
            return
        run = self._runner.run_alone if alone and len(jobs) == 1 else self._runner.run
        batch.started = perf_counter()
        errors: list[Exception] = []
        attempts = Attempts(run, self._shapes, self._admit, errors=errors, batch=batch)
        results = attempts.answer(jobs)
        batch.ended = perf_counter()
        self._call(partial(self._finish, batch, jobs, results, errors))

    def _call(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop is closed: nobody is there to be told
            log.warning("a batch ended after its host")

    def _drop(self, alone: bool = True) -> None:
        """Close the runner, once."""
        if not self._dropped:
            self._dropped = True
            self._runner.close()
