"""Engines: batches on the loop, limits, deadlines, cancels and order."""

import asyncio
import time
from collections.abc import Mapping

import numpy as np
import pytest

from slipway.host.engine.batch import Pad, Shapes
from slipway.host.engine.engine import TURN_S, Workers
from slipway.host.engine.job import Job, Result
from slipway.host.request.message import Array
from slipway.host.request.refusal import RequestRefused
from tests.engines import (
    Bench,
    PaperRunner,
    answers,
    code,
    job_of,
    on_loop,
    until,
    with_workers,
)
from tests.support.pace import cpu_s, within

# --- on the event loop


def test_what_comes_in_one_turn_of_the_loop_is_one_batch() -> None:
    async def test() -> None:
        bench = Bench()
        for n in range(5):
            bench.ask(n, float(n))
        assert bench.runner.runs == []  # never inside submit
        await bench.settle(5)
        assert bench.runner.runs == [5]
        for n in range(5):
            expected = answers(np.array([[n, 0]], np.float32))
            result = bench.results[n]
            assert not isinstance(result, Exception)
            assert all(np.array_equal(result[name], expected[name]) for name in expected)

    on_loop(test)


def test_a_batch_says_when_it_ran_and_its_jobs_know_it() -> None:
    async def test() -> None:
        bench = Bench(max_rows=4)
        jobs = [bench.ask(n, 1.0, 2.0) for n in range(3)]
        await bench.settle(3)
        first, second = bench.seen.batches
        assert [(b.number, b.rows, b.jobs) for b in bench.seen.batches] == [(1, 4, 2), (2, 2, 1)]
        assert [job.batch for job in jobs] == [first, first, second]
        assert jobs[0].arrived < first.started < first.ended <= second.started
        assert bench.seen.jobs[0] == jobs[:2]

    on_loop(test)


def test_jobs_that_come_with_an_answer_are_run_in_the_same_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slipway.host.engine.engine.TURN_S", 60.0)

    async def test() -> None:
        bench = Bench()

        def ask_again(job: Job, result: Result) -> None:
            bench.finish(job, result)
            bench.ask("second", 2.0)

        bench.engine.submit(job_of({"x": np.zeros((1, 2), np.float32)}, ask_again, "first"))
        await asyncio.sleep(0)
        assert bench.told == ["first", "second"]

    on_loop(test)


def test_the_loop_is_not_held_for_longer_than_a_turn() -> None:
    class Slow(PaperRunner):
        def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
            time.sleep(TURN_S / 2)
            return super().run(inputs)

    async def test() -> None:
        bench = Bench(runner=Slow(), max_rows=1)
        for n in range(12):
            bench.ask(n, 1.0)
        turns = 0
        while len(bench.told) < 12:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 12 / 3

    on_loop(test)


def test_a_finish_that_raises_hurts_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        bench = Bench()

        def bad(job: Job, result: Result) -> None:
            raise ValueError("a face's defect")

        bench.ask("before", 1.0)
        x = {"x": np.zeros((1, 2), np.float32)}
        bench.engine.submit(job_of(x, bad, None))
        bench.engine.submit(job_of(x, bad, None, deadline=0.0))
        bench.ask("after", 1.0)
        await bench.settle(2)
        assert bench.told == ["before", "after"]

    on_loop(test)
    assert "a face's defect" in caplog.text


def test_a_closed_inline_engine_runs_what_waits_and_then_drops_its_runner() -> None:
    async def test() -> None:
        bench = Bench()
        bench.ask("a", 1.0)
        bench.engine.close()
        bench.engine.close()
        assert not bench.runner.closed
        with pytest.raises(RequestRefused, match="unloaded"):
            bench.ask("b", 1.0)
        await bench.settle(1)
        assert bench.runner.closed == 1
        idle = Bench()
        idle.engine.close()
        assert idle.runner.closed == 1

    on_loop(test)


def test_a_runner_is_closed_once_however_many_turns_are_due() -> None:
    async def test() -> None:
        bench = Bench()

        def ask_again(job: Job, result: Result) -> None:
            bench.ask("second", 2.0)
            bench.engine.close()

        bench.engine.submit(job_of({"x": np.zeros((1, 2), np.float32)}, ask_again, "first"))
        await bench.settle(1)
        await asyncio.sleep(0.001)
        assert bench.runner.closed == 1

    on_loop(test)


def test_a_delay_lets_a_batch_fill() -> None:
    async def test() -> None:
        bench = Bench(max_rows=3, max_delay_us=300_000)
        started = time.perf_counter()
        bench.ask(0, 1.0)
        await asyncio.sleep(0.005)
        bench.ask(1, 1.0)
        await bench.settle(2)
        assert bench.runner.runs == [2]
        assert time.perf_counter() - started >= 0.3

    on_loop(test)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_batch_that_is_full_does_not_wait(threads: int) -> None:
    async def test(workers: Workers | None = None) -> None:
        bench = Bench(workers, max_rows=3, max_delay_us=30_000_000)
        for n in range(3):
            bench.ask(n, 1.0)
            await asyncio.sleep(0.002)
        await bench.settle(3)
        assert bench.runner.runs == [3]

    if threads:
        with_workers(test, threads)
    else:
        on_loop(test)


def test_a_bench_of_models_that_are_no_rows_runs_each_job_as_a_whole() -> None:
    class Whole(PaperRunner):
        def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
            self.runs.append(len(inputs["x"]))
            return {"mean": inputs["x"].mean()}

    async def test() -> None:
        bench = Bench(runner=Whole(), shapes=Shapes(batchable=False))
        bench.ask("a", 1.0, 3.0, width=1)
        bench.ask("b", 5.0, width=1)
        await bench.settle(2)
        assert bench.runner.runs == [2, 1]
        assert [bench.results[name]["mean"] for name in "ab"] == [2.0, 5.0]  # type: ignore[index]

    on_loop(test)


def test_lengths_are_padded_to_a_bucket_and_answers_cut_back() -> None:
    class Doubles(PaperRunner):
        def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
            self.runs.append(inputs["x"].shape)  # type: ignore[arg-type]
            return {"y": inputs["x"] * 2}

    async def test() -> None:
        shapes = Shapes(pads={"x": Pad(1, 0.0, (4, 8))}, cuts={"y": 1})
        bench = Bench(runner=Doubles(), shapes=shapes)
        for n, width in enumerate((2, 4, 7, 3)):
            bench.ask(n, 1.0, width=width)
        await bench.settle(4)
        assert bench.runner.runs == [(3, 4), (1, 8)]
        widths = [bench.results[n]["y"].shape[1] for n in range(4)]  # type: ignore[index]
        assert widths == [2, 4, 7, 3]

    on_loop(test)


# --- limits, deadlines, cancels


def test_a_full_queue_refuses_at_once() -> None:
    async def test() -> None:
        bench = Bench(queue_jobs=3)
        for n in range(3):
            assert not bench.engine.full
            bench.ask(n, 1.0)
        assert bench.engine.full

        def ask() -> None:
            with pytest.raises(RequestRefused):
                bench.ask("refused", 1.0)

        assert cpu_s(ask, rounds=1000) < 0.0005
        with pytest.raises(RequestRefused) as refused:
            bench.ask("refused", 1.0)
        assert (refused.value.code, refused.value.retry_after_s) == ("queue_full", 1)
        await bench.settle(3)
        assert sorted(bench.told) == [0, 1, 2]
        bench.ask("later", 1.0)
        await bench.settle(4)

    on_loop(test)


def test_a_queue_is_bounded_by_rows_too() -> None:
    async def test() -> None:
        bench = Bench(queue_rows=10)
        bench.ask("a", rows=8)
        with pytest.raises(RequestRefused, match="too many"):
            bench.ask("b", rows=3)
        bench.ask("c", rows=2)
        await bench.settle(2)

    on_loop(test)


def test_a_cancelled_job_frees_its_place_in_a_full_queue() -> None:
    async def test() -> None:
        bench = Bench(queue_jobs=2)
        gone = bench.ask("gone", 1.0)
        bench.ask("a", 1.0)
        gone.cancel()
        bench.ask("b", 1.0)
        await bench.settle(2)
        assert bench.runner.runs == [2]
        assert bench.told == ["a", "b"]

    on_loop(test)


def test_a_late_job_is_refused_and_never_run() -> None:
    async def test() -> None:
        bench = Bench()
        bench.ask("late", 1.0, deadline=time.perf_counter() - 0.001)
        bench.ask("late and gone", 1.0, deadline=0.0).cancel()
        bench.ask("in time", 1.0, deadline=time.perf_counter() + 60)
        await bench.settle(2)
        assert code(bench.results["late"]) == "queue_timeout"
        assert bench.runner.runs == [1]
        assert set(bench.results) == {"late", "in time"}

    on_loop(test)


def test_a_late_job_is_told_soon_while_every_thread_is_busy() -> None:
    async def test(workers: Workers) -> None:
        bench = Bench(workers)
        bench.hold()
        bench.ask("running", 1.0)
        await until(bench.runner.begun.is_set)
        with within(0.1):  # 75 ms
            asked = time.perf_counter()
            bench.ask("late", 1.0, deadline=asked + 0.06)  # not by the first look
            bench.ask("patient", 1.0, deadline=asked + 600)
            await bench.settle(1)
        assert code(bench.results["late"]) == "queue_timeout"
        bench.runner.gate.set()
        await bench.settle(3)
        assert bench.runner.runs == [1, 1]

    with_workers(test, threads=1)


def test_a_job_that_is_cancelled_while_it_runs_is_not_finished() -> None:
    async def test(workers: Workers) -> None:
        bench = Bench(workers)
        bench.hold()
        gone = bench.ask("gone", 1.0)
        bench.ask("stays", 1.0)
        await until(bench.runner.begun.is_set)
        gone.cancel()
        bench.runner.gate.set()
        await bench.settle(1)
        await until(lambda: bool(bench.seen.batches))
        assert bench.told == ["stays"]

    with_workers(test)


def test_high_jobs_overtake_those_that_wait() -> None:
    async def test(workers: Workers) -> None:
        bench = Bench(workers, max_rows=1)
        bench.hold()
        bench.ask("running", 1.0)
        await until(bench.runner.begun.is_set)
        bench.ask("normal", 1.0)
        bench.ask("high", 1.0, high=True)
        bench.runner.gate.set()
        await bench.settle(3)
        assert bench.told == ["running", "high", "normal"]

    with_workers(test, threads=1)
