"""The result cache: the same answer, computed once, and never at anybody's cost."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.host.engine.cache import ENTRY_BYTES, Cache, CachedEngine, digest_inputs
from slipway.host.engine.engine import Workers
from slipway.host.engine.job import Job
from slipway.host.observe.series import Series
from slipway.host.request.refusal import RequestRefused
from tests.engines import RAISES, Bench, answers, on_loop, until, with_workers
from tests.support.pace import limit, within


class Cached(Bench):
    """A bench that asks through a cache."""

    def __init__(self, workers: Workers | None = None, cache: Cache | None = None, **more: Any):
        super().__init__(workers, **more)
        self.cache = cache or Cache(10**6)
        self.counts = Series("m", "v1")
        self.cached = CachedEngine(self.engine, self.cache, "v1", self.counts)

    def ask(self, name: Any, *values: float, **fields: Any) -> Job:
        job = self.job(name, *values, **fields)
        self.cached.submit(job)
        return job

    def counted(self) -> tuple[int, int, int]:
        counts = self.counts
        return counts.cache_hits, counts.cache_misses, counts.cache_coalesced


def test_a_second_equal_request_is_answered_without_a_run() -> None:
    async def test() -> None:
        bench = Cached()
        bench.ask("first", 5.0)
        await bench.settle(1)
        second = bench.ask("second", 5.0)
        assert "second" not in bench.results  # never inside submit
        await bench.settle(2)
        assert bench.runner.runs == [1]
        assert bench.counted() == (1, 1, 0)
        assert second.batch is None
        expected = answers(np.array([[5, 0]], np.float32))
        for name in ("first", "second"):
            result = bench.results[name]
            assert not isinstance(result, Exception)
            assert all(np.array_equal(result[key], expected[key]) for key in expected)

    on_loop(test)


def test_other_values_another_version_and_other_shapes_are_other_requests() -> None:
    async def test() -> None:
        bench = Cached()
        other = Cached(cache=bench.cache)
        other.cached._version = "v2"
        bench.ask(0, 5.0)
        bench.ask(1, 6.0)
        bench.ask(2, 5.0, width=3)
        bench.ask(3, 5.0, 5.0)
        other.ask(0, 5.0)
        await bench.settle(4)
        await other.settle(1)
        assert (bench.counted(), other.counted()) == ((0, 4, 0), (0, 1, 0))

    on_loop(test)


def test_equal_requests_in_flight_are_computed_once() -> None:
    async def test() -> None:
        bench = Cached()
        jobs = [bench.ask(n, 5.0) for n in range(4)]
        await bench.settle(4)
        assert bench.runner.runs == [1]
        assert bench.counted() == (0, 1, 3)
        assert [job.batch is None for job in jobs] == [False, True, True, True]

    on_loop(test)


def test_a_follower_is_answered_though_the_first_was_cancelled() -> None:
    async def test() -> None:
        bench = Cached()
        first = bench.ask("first", 5.0)
        bench.ask("second", 5.0)
        first.cancel()
        await bench.settle(1)
        assert bench.told == ["second"]
        assert bench.runner.runs == [1]

    on_loop(test)


def test_what_everybody_has_given_up_is_not_run() -> None:
    async def test() -> None:
        bench = Cached()
        heard = []
        jobs = [bench.job(n, 5.0) for n in (0, 1)]
        for job in jobs:
            job.abandon = lambda job: heard.append(job.context)
            bench.cached.submit(job)
        for job in jobs:
            job.cancel()
        assert heard == [0, 1]
        bench.ask("new", 5.0)
        await bench.settle(1)
        assert bench.runner.runs == [1]
        assert bench.counted() == (0, 2, 1)

    on_loop(test)


def test_a_follower_is_answered_though_the_first_was_too_late() -> None:
    async def test(workers: Workers) -> None:
        bench = Cached(workers)
        bench.hold()
        bench.ask("running", 1.0)
        await until(bench.runner.begun.is_set)
        with within(0.1):
            now = time.perf_counter()
            bench.ask("first", 5.0, deadline=now + 0.01)
            bench.ask("hasty", 5.0, deadline=now + 0.02)
            bench.ask("second", 5.0, deadline=now + 600)
            await bench.settle(2)
        for name in ("first", "hasty"):
            result = bench.results[name]
            assert isinstance(result, RequestRefused)
            assert result.code == "queue_timeout"
        bench.runner.gate.set()
        await bench.settle(4)
        assert not isinstance(bench.results["second"], Exception)
        assert bench.runner.runs == [1, 1]

    with_workers(test, threads=1)


def test_who_is_too_late_for_a_run_that_has_begun_gets_its_answer() -> None:
    async def test(workers: Workers) -> None:
        bench = Cached(workers)
        bench.hold()
        late = time.perf_counter() + limit(0.1)
        bench.ask("first", 5.0, deadline=late)
        await until(bench.runner.begun.is_set)
        bench.ask("second", 5.0, deadline=late)
        await until(lambda: time.perf_counter() > late + 0.04)
        assert bench.results == {}
        bench.runner.gate.set()
        await bench.settle(2)
        assert not any(isinstance(result, Exception) for result in bench.results.values())

    with_workers(test, threads=1)


def test_all_are_refused_when_all_were_too_late() -> None:
    async def test() -> None:
        bench = Cached()
        bench.ask("a", 5.0, deadline=0.0)
        bench.ask("b", 5.0, deadline=0.5)
        await bench.settle(2)
        assert bench.runner.runs == []
        assert all(isinstance(result, RequestRefused) for result in bench.results.values())

    on_loop(test)


def test_a_fault_of_the_model_goes_to_all_and_is_not_kept() -> None:
    async def test() -> None:
        bench = Cached()
        bench.ask("a", RAISES)
        bench.ask("b", RAISES)
        await bench.settle(2)
        assert all(isinstance(result, ValueError) for result in bench.results.values())
        bench.ask("c", RAISES)
        await bench.settle(3)
        assert bench.counted() == (0, 2, 1)
        assert len(bench.cache) == 0

    on_loop(test)


def test_a_refusal_by_a_full_engine_is_the_askers_and_leaves_nothing() -> None:
    async def test() -> None:
        bench = Cached(queue_jobs=1)
        bench.ask("a", 5.0)
        assert bench.cached.full
        with pytest.raises(RequestRefused):
            bench.ask("b", 6.0)
        bench.ask("a too", 5.0)  # takes no place
        await bench.settle(2)
        assert bench.cached._flights == {}
        assert bench.counted() == (0, 1, 1)

    on_loop(test)


def test_kept_answers_cannot_be_written_to() -> None:
    async def test() -> None:
        bench = Cached()
        bench.ask("a", 5.0)
        await bench.settle(1)
        first: Any = bench.results["a"]
        expected = first["y"].copy()
        first["y"][:] = 0  # a view of the batch, not what is kept
        bench.ask("b", 5.0)
        await bench.settle(2)
        second: Any = bench.results["b"]
        assert np.array_equal(second["y"], expected)
        with pytest.raises(ValueError, match="read-only"):
            second["y"][:] = 0

    on_loop(test)


def test_it_keeps_to_its_size_and_drops_what_was_not_used_for_longest() -> None:
    answer = {"y": np.zeros(100, np.uint8)}
    cache = Cache(3 * (ENTRY_BYTES + 100))
    for n in range(3):
        cache.keep("v1", bytes([n]), answer)
    assert cache.find("v1", b"\0") is not None
    cache.keep("v1", b"\3", answer)
    found = [n for n in range(4) if cache.find("v1", bytes([n])) is not None]
    assert found == [0, 2, 3]
    assert cache.used_bytes == cache.size_bytes
    cache.keep("v1", b"\4", {"y": np.zeros(10_000, np.uint8)})  # larger than all of it
    assert cache.find("v1", b"\4") is None
    cache.keep("v2", b"\0", {"y": np.array(["text"], object)})
    cache.forget("v1")
    assert len(cache) == 1
    cache.forget("v2")
    assert cache.used_bytes == 0


def test_a_closed_engine_is_forgotten() -> None:
    async def test() -> None:
        bench = Cached()
        bench.ask("a", 5.0)
        await bench.settle(1)
        bench.cached.close()
        assert (len(bench.cache), bench.runner.closed) == (0, 1)

    on_loop(test)


def test_a_version_that_is_unloaded_in_flight_leaves_nothing_in_the_cache() -> None:
    async def test() -> None:
        bench = Cached()
        bench.ask("a", 5.0)
        bench.cached.close()
        await bench.settle(1)
        assert len(bench.cache) == 0

    on_loop(test)


texts = st.lists(st.text(max_size=3), min_size=1, max_size=3)


@settings(max_examples=100, deadline=None)
@given(texts, texts)
@example(["a", ""], ["", "a"])
def test_texts_have_equal_digests_only_if_they_are_equal(one: list[str], two: list[str]) -> None:
    digests = {digest_inputs({"x": np.array(each, object)}) for each in (one, two)}
    assert len(digests) == (1 if one == two else 2)


def test_a_digest_covers_names_datatypes_shapes_and_every_byte() -> None:
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    every = [
        {"x": x}, {"y": x}, {"x": x.T}, {"x": x.reshape(3, 2)}, {"x": x.astype(np.int64)},
        {"x": x.view(np.float32)}, {"x": x + 1}, {"x": x, "y": x}, {"x": x[:1], "y": x},
    ]  # fmt: skip
    assert len({digest_inputs(each) for each in every}) == len(every)
    assert digest_inputs({"x": x.T}) == digest_inputs({"x": np.ascontiguousarray(x.T)})
