"""Hold the jobs of one version until a batch of them is taken.

The event loop puts, whoever runs the model takes: the loop itself, or threads that hold the
workers' lock. What is put goes through a deque, whose ends are safe to use from two threads, so
putting takes no lock. Every other structure here belongs to the taker.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from slipway.host.engine.job import NEVER, Job

HIGH_TURNS: Final = 4
"""So many batches in a row may be led by high jobs while normal ones wait; the next is theirs.
Under any load of high jobs a fifth of the batches goes to the normal ones."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests are put together; replaced whole when it is tuned."""

    max_rows: int = 32
    """The most rows of a batch. Best the smallest number that is nearly as fast as any."""
    max_delay_us: int = 0
    """How long a batch may wait to be filled. 0: whoever is idle starts at once."""
    preferred_rows: tuple[int, ...] = ()
    """Sizes that a batch is cut to when more is waiting, e.g. those that a CUDA graph holds."""
    spread: bool = False
    """Cut what waits into equal parts while several workers are idle. For processors, where a
    run keeps one core busy; never for a GPU, which does the parts one after the other."""
    queue_jobs: int = 256
    """The most jobs that wait; more are refused at once."""
    queue_rows: int = 8192
    """The most rows that wait. A job of more than that is taken when nothing else waits."""


Lanes = dict[Any, deque[Job]]
"""Waiting jobs by group, oldest first; the group whose turn is next comes first."""


class Queue:
    """The waiting jobs: two priorities, and under each a lane for every group."""

    def __init__(self, batching: Batching, alone: bool = False) -> None:
        self.batching = batching
        self._alone = alone
        self._inbox: deque[Job] = deque()
        self._high: Lanes = {}
        self._normal: Lanes = {}
        self._high_turns = 0
        self._earliest = NEVER
        # Each counter is written by one side only: the loop counts in, the taker counts out.
        self._jobs_in = self._jobs_out = 0
        self._rows_in = self._rows_out = 0

    @property
    def jobs(self) -> int:
        """Jobs that wait."""
        return self._jobs_in - self._jobs_out

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._rows_in - self._rows_out

    @property
    def earliest(self) -> float:
        """No waiting job that was sorted in has a deadline before this."""
        return self._earliest

    def full(self, rows: int) -> bool:
        """Whether a job of so many rows is too much now."""
        waiting = self._jobs_in - self._jobs_out
        return waiting >= self.batching.queue_jobs or (
            waiting > 0 and self._rows_in - self._rows_out + rows > self.batching.queue_rows
        )

    def offer(self, job: Job) -> bool:
        """Add a job if there is room; the same as asking `full` and then `put`. On the loop."""
        waiting, batching, rows = self._jobs_in - self._jobs_out, self.batching, job.rows
        if waiting and (
            waiting >= batching.queue_jobs
            or self._rows_in - self._rows_out + rows > batching.queue_rows
        ):
            return False
        self._inbox.append(job)
        self._jobs_in += 1
        self._rows_in += rows
        return True

    def put(self, job: Job) -> None:
        """Add a job. On the loop."""
        self._inbox.append(job)
        self._jobs_in += 1
        self._rows_in += job.rows

    def take(self, parts: int = 1) -> list[Job]:
        """Return the jobs of the next batch, in one group; none if nothing waits.

        `parts`: so many workers, this one included, could share what waits.
        High jobs lead, except each fifth time while normal ones wait; room that is left goes
        to the other priority's jobs of the same group. Groups of one priority take turns.
        """
        self.sort()
        batch: list[Job] = []
        while not batch and (self._high or self._normal):
            high_leads = self._high and not (self._normal and self._high_turns >= HIGH_TURNS)
            first, second = (self._high, self._normal) if high_leads else (self._normal, self._high)
            group = next(iter(first))
            limit = self._limit(group)
            if parts > 1 and self.batching.spread:
                limit = min(limit, -(-self.rows // parts))
            self._fill(batch, limit, first, group)
            if group in second:
                self._fill(batch, limit, second, group)
            self._high_turns = self._high_turns + 1 if high_leads and self._normal else 0
        return batch

    def sweep(self, now: float) -> list[Job]:
        """Remove what was cancelled, and remove and return what is past its deadline."""
        self.sort()
        late: list[Job] = []
        self._earliest = NEVER
        for lanes in (self._high, self._normal):
            for group, lane in list(lanes.items()):
                kept = deque(job for job in lane if not job.cancelled and job.deadline > now)
                late += [job for job in lane if not job.cancelled and job.deadline <= now]
                self._count_out(lane, kept)
                lanes[group] = kept
                if not kept:
                    del lanes[group]
                else:
                    self._earliest = min(self._earliest, min(job.deadline for job in kept))
        return late

    def ripe_at(self) -> float:
        """Return when the next batch may start: in the past, unless a delay is set."""
        self.sort()
        delay_s = self.batching.max_delay_us / 1e6
        if not delay_s or self.rows >= self.batching.max_rows:
            return 0.0
        heads = [lane[0].arrived for lanes in (self._high, self._normal) for lane in lanes.values()]
        return min(heads, default=0.0) + delay_s

    def sort(self) -> None:
        """Bring what has come in into its lanes."""
        inbox = self._inbox
        while inbox:
            job = inbox.popleft()
            lanes = self._high if job.high else self._normal
            lane = lanes.get(job.group)
            if lane is None:
                lane = lanes[job.group] = deque()
            lane.append(job)
            if job.deadline < self._earliest:
                self._earliest = job.deadline

    def _limit(self, group: Any) -> int:
        """Return the most rows of this batch: the largest preferred size that can be filled."""
        batching = self.batching
        if self._alone:
            return 0
        if not batching.preferred_rows:
            return batching.max_rows
        lanes = (self._high.get(group, ()), self._normal.get(group, ()))
        waiting = sum(job.rows for lane in lanes for job in lane if not job.cancelled)
        filled = [n for n in batching.preferred_rows if n <= min(waiting, batching.max_rows)]
        return max(filled, default=batching.max_rows)

    def _fill(self, batch: list[Job], limit: int, lanes: Lanes, group: Any) -> None:
        """Move jobs from a lane to the batch; one that is too large for any batch is alone."""
        lane = lanes[group]
        rows = sum(job.rows for job in batch)
        before = after = 0
        while lane:
            job = lane[0]
            if not job.cancelled:
                if batch and rows + job.rows > limit:
                    break
                rows += job.rows
                batch.append(job)
            lane.popleft()
            before += 1
            after += job.rows
        self._jobs_out += before
        self._rows_out += after
        del lanes[group]
        if lane:
            lanes[group] = lane

    def _count_out(self, before: deque[Job], after: deque[Job]) -> None:
        self._jobs_out += len(before) - len(after)
        self._rows_out += sum(job.rows for job in before) - sum(job.rows for job in after)
