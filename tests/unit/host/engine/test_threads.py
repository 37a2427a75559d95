"""Engines that share threads: turns, all cores for one, a clean end, and many rows."""

import asyncio
import gc
import threading
import time
import weakref
from functools import partial
from typing import Any

import numpy as np
import pytest

from slipway.host.engine.engine import Engine, Workers
from slipway.host.request.refusal import RequestRefused
from tests.engines import (
    RAISES,
    Bench,
    ask_many_rows,
    code,
    job_of,
    on_loop,
    until,
    with_workers,
)
from tests.support.pace import limit


def test_threads_batch_what_came_while_they_were_busy() -> None:
    async def test(workers: Workers) -> None:
        bench = Bench(workers)
        bench.hold()
        bench.ask(0, 1.0)
        await until(bench.runner.begun.is_set)
        for n in range(1, 9):
            bench.ask(n, 1.0)
            await asyncio.sleep(0)
        bench.runner.gate.set()
        await bench.settle(9)
        assert bench.runner.runs == [1, 8]
        assert bench.seen.failed == 0

    with_workers(test, threads=1)


def test_a_finish_is_called_on_the_loop_whoever_ran_the_model() -> None:
    async def test(workers: Workers) -> None:
        where = []
        bench = Bench(workers)
        finish = lambda job, result: where.append(threading.current_thread())  # noqa: E731
        bench.engine.submit(job_of({"x": np.zeros((1, 2), np.float32)}, finish, None))
        await until(lambda: bool(where))
        assert where == [threading.main_thread()]

    with_workers(test)


def test_poison_in_a_thread_fails_one_row() -> None:
    async def test(workers: Workers) -> None:
        bench = Bench(workers)
        for n, value in enumerate((1.0, RAISES, 3.0)):
            bench.ask(n, value)
        await bench.settle(3)
        failed = [n for n in range(3) if isinstance(bench.results[n], Exception)]
        assert (failed, bench.seen.failed) == ([1], 1)

    with_workers(test)


def test_all_cores_are_for_a_job_that_is_alone_in_the_whole_host() -> None:
    async def test(workers: Workers) -> None:
        one, other = Bench(workers), Bench(workers)
        one.ask(0, 1.0)
        await one.settle(1)
        assert one.runner.alone == 1
        one.ask(1, 1.0)
        one.ask(2, 1.0)
        await one.settle(3)
        assert one.runner.alone == 1  # two jobs
        one.hold()
        one.ask(3, 1.0)
        await until(one.runner.begun.is_set)
        other.ask(0, 1.0)
        await other.settle(1)
        assert other.runner.alone == 0  # another engine runs
        one.runner.gate.set()
        await one.settle(4)

    with_workers(test)


def test_a_job_is_not_alone_while_another_engines_jobs_wait() -> None:
    async def test(workers: Workers) -> None:
        one, two, three = Bench(workers), Bench(workers), Bench(workers)
        one.hold()
        one.ask(0, 1.0)
        await until(one.runner.begun.is_set)
        two.ask(0, 1.0)
        three.ask(0, 1.0)
        one.runner.gate.set()
        await two.settle(1)
        await three.settle(1)
        assert two.runner.alone + three.runner.alone == 1  # the last

    with_workers(test, threads=1)


def test_engines_take_turns() -> None:
    async def test(workers: Workers) -> None:
        order: list[str] = []
        busy, polite = Bench(workers, max_rows=1), Bench(workers, max_rows=1)
        busy.hold()
        busy.ask("first", 1.0)
        await until(busy.runner.begun.is_set)

        def note(engine: Engine, name: str, count: int) -> None:
            for _n in range(count):
                done = lambda job, result: order.append(job.context)  # noqa: E731
                engine.submit(job_of({"x": np.zeros((1, 2), np.float32)}, done, name))

        note(busy.engine, "busy", 20)
        note(polite.engine, "polite", 3)
        busy.runner.gate.set()
        await until(lambda: len(order) == 23)
        assert order[:6].count("polite") == 3

    with_workers(test, threads=1)


def test_idle_threads_share_what_waits_where_that_is_wanted() -> None:
    async def test(workers: Workers) -> None:
        await until(lambda: workers._idle == 2)
        bench = Bench(workers, spread=True)
        bench.hold()
        for n in range(6):
            bench.ask(n, 1.0)
        await until(lambda: len(bench.runner.runs) == 2)
        bench.runner.gate.set()
        await bench.settle(6)
        assert bench.runner.runs == [3, 3]

    with_workers(test)


def test_a_delay_is_kept_in_threads_too() -> None:
    async def test(workers: Workers) -> None:
        bench = Bench(workers, max_delay_us=300_000, max_rows=8)
        started = time.perf_counter()
        for n in range(3):
            bench.ask(n, 1.0)
            await asyncio.sleep(0.002)
        await bench.settle(3)
        assert time.perf_counter() - started >= 0.3
        assert bench.runner.runs == [3]

    with_workers(test)


def test_a_thread_that_becomes_idle_keeps_the_delay() -> None:
    async def test(workers: Workers) -> None:
        bench = Bench(workers, max_delay_us=40_000)
        bench.hold()
        bench.ask(0, 1.0)
        await until(bench.runner.begun.is_set)
        asked = time.perf_counter()
        bench.ask(1, 1.0)
        bench.runner.gate.set()
        await bench.settle(2)
        assert time.perf_counter() - asked >= 0.04

    with_workers(test, threads=1)


# --- the end


def test_a_closed_engine_runs_what_waits_and_its_runner_is_closed_last() -> None:
    async def test(workers: Workers) -> None:
        bench = Bench(workers, max_rows=1)
        bench.hold()
        for n in range(4):
            bench.ask(n, 1.0)
        await until(bench.runner.begun.is_set)
        bench.engine.close()
        with pytest.raises(RequestRefused):
            bench.ask("new", 1.0)
        bench.runner.gate.set()
        await bench.settle(4)
        await until(lambda: bench.runner.closed == 1)
        idle = Bench(workers)
        idle.engine.close()
        await until(lambda: idle.runner.closed == 1)
        assert workers._sources == []

    with_workers(test)


def test_a_runner_is_not_closed_while_it_runs() -> None:
    async def test(workers: Workers) -> None:
        bench = Bench(workers)
        bench.hold()
        bench.ask("running", 1.0)
        await until(bench.runner.begun.is_set)
        bench.engine.close()
        await until(lambda: workers._idle == 1)
        await asyncio.sleep(0.01)
        assert not bench.runner.closed
        bench.runner.gate.set()
        await until(lambda: bench.runner.closed == 1)

    with_workers(test)


def test_closed_workers_end_after_their_run_and_refuse_what_waits() -> None:
    async def test(workers: Workers) -> None:
        bench = Bench(workers, max_rows=1)
        bench.hold()
        bench.ask("running", 1.0)
        await until(bench.runner.begun.is_set)
        bench.ask("waiting", 1.0)
        workers.close()
        await bench.settle(1)
        assert code(bench.results["waiting"]) == "draining"
        assert not workers.join(0.01)
        bench.runner.gate.set()
        await bench.settle(2)
        assert workers.join(limit(5))
        bench.engine.close()
        assert bench.runner.closed == 1

    assert with_workers(test, threads=1) == []


def test_no_thread_is_left_behind() -> None:
    async def test(workers: Workers) -> None:
        bench = Bench(workers)
        for n in range(50):
            bench.ask(n, 1.0)
        await bench.settle(50)
        names = {t.name for t in threading.enumerate() if t.name.startswith("model-")}
        assert names == {"model-0", "model-1"}
        assert all(t.daemon for t in threading.enumerate() if t.name in names)

    assert with_workers(test) == []


def test_hundreds_of_switches_leave_no_engine_behind() -> None:
    async def test(workers: Workers) -> None:
        gone: list[weakref.ref[Any]] = []
        for _ in range(200):
            for where in (workers, None):
                bench = Bench(where)
                bench.ask("a", 1.0)
                bench.engine.close()
                gone.append(weakref.ref(bench.runner))
                await bench.settle(1)
        await until(lambda: not workers._sources)
        del bench
        gc.collect()
        await asyncio.sleep(0.01)
        assert [ref() for ref in gone if ref() is not None] == []

    with_workers(test)


# --- many rows


@pytest.mark.parametrize("threads", [0, 2])
def test_of_fifty_thousand_rows_none_goes_astray(threads: int) -> None:
    """Millions of them: tests/soak."""
    if threads:
        with_workers(partial(ask_many_rows, 50_000, 7), threads)
    else:
        on_loop(ask_many_rows, 50_000, 7, None)
