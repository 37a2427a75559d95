"""Runners of paper for engines, and what asks them."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import numpy as np

from slipway.host.engine.engine import Admit, Batching, Engine, Shapes, Workers
from slipway.host.engine.job import NEVER, Batch, Job, Result
from slipway.host.engine.spin import Spin
from slipway.host.engine.tuning import Tuner
from slipway.host.request.message import Array
from slipway.host.request.refusal import RequestRefused
from tests.support.pace import limit
from tests.support.waiting import eventually

RAISES, WRONG_ROWS, EATS_MEMORY = 666.0, 777.0, 888.0
"""First values of a row that the paper model cannot bear."""


def answers(x: Array) -> Mapping[str, Array]:
    """Real maths, row by row: the same bits whatever stands beside a row."""
    return {"y": np.sin(x) * 3 + x, "sum": x.sum(axis=1)}


class PaperRunner:
    """Computes `answers`; falls over poison, and over more rows than it has memory for."""

    def __init__(self, memory_rows: int = 10**9) -> None:
        self.memory_rows = memory_rows
        self.runs: list[int] = []
        self.alone = 0
        self.closed = 0
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        x = inputs["x"]
        self.runs.append(len(x))
        self.begun.set()
        if not self.gate.is_set():
            assert self.gate.wait(limit(10))
        poison = set(x[:, 0].tolist()) & {RAISES, WRONG_ROWS, EATS_MEMORY}
        if len(x) > self.memory_rows or EATS_MEMORY in poison:
            raise RuntimeError("bfc_arena.cc:376 Failed to allocate memory for requested buffer")
        if RAISES in poison:
            raise ValueError("indices element out of data bounds, idx=99")
        outputs = answers(x)
        return {name: values[:-1] for name, values in outputs.items()} if poison else outputs

    def run_alone(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        self.alone += 1
        return self.run(inputs)

    def close(self) -> None:
        self.closed += 1


class Seen:
    """Remembers the batches that an engine tells of."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.jobs: list[list[Job]] = []
        self.failed = 0

    def batch(self, batch: Batch, jobs: list[Job], error: Exception | None) -> None:
        self.batches.append(batch)
        self.jobs.append(jobs)
        self.failed += error is not None


class Bench:
    """One engine, its runner, and the results by the jobs' names."""

    def __init__(
        self,
        workers: Workers | None = None,
        runner: Any = None,
        admit: Admit | None = None,
        shapes: Shapes | None = None,
        tuner: Tuner | None = None,
        spin: Spin | None = None,
        **batching: Any,
    ) -> None:
        self.runner = runner or PaperRunner()
        self.seen = Seen()
        self.engine = Engine(
            self.runner,
            workers,
            Batching(**batching),
            self.seen,
            admit,
            shapes or Shapes(),
            tuner,
            spin,
        )
        self.results: dict[Any, Result] = {}
        self.told: list[Any] = []

    def job(self, name: Any, *values: float, rows: int = 0, width: int = 2, **fields: Any) -> Job:
        """Make a job of one row for each value, or of some rows of zeros."""
        x = np.zeros((rows or len(values), width), np.float32)
        if values:
            x[:, 0] = values
        return job_of({"x": x}, self.finish, name, **fields)

    def ask(self, name: Any, *values: float, **fields: Any) -> Job:
        job = self.job(name, *values, **fields)
        self.engine.submit(job)
        return job

    def finish(self, job: Job, result: Result) -> None:
        assert job.context not in self.results, "finished twice"
        self.results[job.context] = result
        self.told.append(job.context)

    def hold(self) -> None:
        """Keep the next run from ending until `runner.gate` is set."""
        self.runner.gate.clear()
        self.runner.begun.clear()

    async def settle(self, jobs: int, timeout_s: float = 5.0) -> None:
        """Wait until so many jobs have been finished."""
        await eventually(lambda: len(self.results) >= jobs, f"{jobs} jobs are done", timeout_s)

    def sizes(self) -> list[int]:
        return [batch.rows for batch in self.seen.batches]


def code(result: Result) -> str:
    """Return the code of a refusal."""
    assert isinstance(result, RequestRefused), result
    return result.code


def job_of(
    inputs: Mapping[str, Array], finish: Callable[[Job, Result], None], name: Any, **fields: Any
) -> Job:
    rows = len(next(iter(inputs.values())))
    fields = {"arrived": time.perf_counter(), "deadline": NEVER, **fields}
    return Job(inputs, rows, finish, name, **fields)


async def until(done: Callable[[], bool], timeout_s: float = 5.0) -> None:
    await eventually(done, "done", timeout_s)


def on_loop(test: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
    asyncio.run(test(*arguments))


def with_workers(
    test: Callable[[Workers], Coroutine[Any, Any, None]], threads: int = 2
) -> Sequence[threading.Thread]:
    """Run a test that needs threads; every one of them has ended afterwards."""

    async def run() -> None:
        workers = Workers(threads)
        try:
            await test(workers)
        finally:
            workers.close()
            assert workers.join(limit(5))

    asyncio.run(run())
    return [thread for thread in threading.enumerate() if thread.name.startswith("model-")]


class Scrambles(PaperRunner):
    """Answers each row with what only its own number gives."""

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        ids: Any = inputs["id"]
        return {"y": ids * 7 + 3, "pair": np.stack([ids, -ids], 1)}


async def ask_many_rows(rows: int, seed: int, workers: Workers | None) -> None:
    """Ask an engine for numbered rows, 1 to 96 at a time; each answer is that of its own rows."""
    random = np.random.default_rng(seed)
    ends = np.cumsum(random.integers(1, 97, rows // 48))
    numbers = np.arange(ends[-1], dtype=np.int64)
    seen, wrong, done = Seen(), [], 0
    engine = Engine(Scrambles(), workers, Batching(max_rows=256, queue_rows=10**6), seen)

    def finish(job: Job, result: Result) -> None:
        nonlocal done
        done += 1
        ids: Any = job.inputs["id"]
        if (
            isinstance(result, Exception)
            or not np.array_equal(result["y"], ids * 7 + 3)
            or not np.array_equal(result["pair"][:, 1], -ids)
        ):
            wrong.append(job)

    begins = [0, *ends[:-1].tolist()]
    for n, (begin, end) in enumerate(zip(begins, ends.tolist(), strict=True)):
        group, high = int(random.integers(3)), n % 5 == 0
        inputs = {"id": numbers[begin:end]}
        engine.submit(Job(inputs, end - begin, finish, group=group, high=high))
        if n % 128 == 127:
            await asyncio.sleep(0)
            await until(lambda: engine.waiting < 100)
    await until(lambda: done == len(ends))
    assert wrong == []
    assert sum(batch.rows for batch in seen.batches) == ends[-1]
    assert len(seen.batches) < len(ends) / 2
