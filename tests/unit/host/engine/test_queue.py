"""The queue of one engine: what is taken together, in which order, and what never is."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.host.engine.job import NEVER, Job, Result
from slipway.host.engine.queue import HIGH_TURNS, Batching, Queue


def never_finish(job: Job, result: Result) -> None:
    raise AssertionError("the queue finishes nothing")


def job(
    name: Any, rows: int = 1, group: Any = None, high: bool = False, deadline: float = NEVER
) -> Job:
    inputs = {"x": np.zeros(rows)}
    return Job(inputs, rows, never_finish, name, group=group, deadline=deadline, high=high)


def names(jobs: list[Job]) -> list[Any]:
    return [each.context for each in jobs]


def queue_of(*jobs: Job, alone: bool = False, **batching: Any) -> Queue:
    queue = Queue(Batching(**batching), alone)
    for each in jobs:
        queue.put(each)
    return queue


def drain(queue: Queue) -> list[list[Any]]:
    batches = []
    while batch := queue.take():
        batches.append(names(batch))
    return batches


def test_a_batch_is_what_waits_up_to_the_most_rows() -> None:
    queue = queue_of(*[job(n) for n in range(7)], max_rows=3)
    assert drain(queue) == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_job_is_never_split_and_one_that_is_too_large_is_alone() -> None:
    queue = queue_of(job("a", 2), job("b", 9), job("c", 3), job("d", 2), max_rows=4)
    assert drain(queue) == [["a"], ["b"], ["c"], ["d"]]


def test_only_one_group_shares_a_batch_and_groups_take_turns() -> None:
    jobs = [job(f"{group}{n}", group=group) for n in range(3) for group in "ab"]
    assert drain(queue_of(*jobs, max_rows=2)) == [["a0", "a1"], ["b0", "b1"], ["a2"], ["b2"]]


def test_where_nothing_may_share_a_batch_each_job_is_one() -> None:
    assert drain(queue_of(job("a"), job("b"), alone=True)) == [["a"], ["b"]]


def test_a_batch_is_cut_at_the_largest_preferred_size_that_is_filled() -> None:
    jobs = [job(n) for n in range(27)]
    batches = drain(queue_of(*jobs, max_rows=64, preferred_rows=(4, 8, 16)))
    assert [len(batch) for batch in batches] == [16, 8, 3]


def test_idle_workers_share_what_waits_only_where_that_is_wanted() -> None:
    jobs = [job(n) for n in range(6)]
    assert len(queue_of(*jobs, spread=True).take(parts=2)) == 3
    assert len(queue_of(*jobs).take(parts=2)) == 6


def test_high_jobs_go_first_and_normal_ones_of_their_group_fill_the_room() -> None:
    queue = queue_of(job("n0"), job("n1"), job("h", high=True), job("x", group="x"), max_rows=2)
    assert drain(queue) == [["h", "n0"], ["x"], ["n1"]]


def test_normal_jobs_are_served_under_any_load_of_high_ones() -> None:
    queue = queue_of(*[job("n", group="n") for _ in range(3)], max_rows=1)
    taken = []
    for _ in range(3 * (HIGH_TURNS + 1)):
        queue.put(job("h", group="h", high=True))
        taken += names(queue.take())
    assert taken == (["h"] * HIGH_TURNS + ["n"]) * 3


def test_a_cancelled_job_is_dropped_and_frees_its_place() -> None:
    jobs = [job(n) for n in range(3)]
    queue = queue_of(*jobs, max_rows=2)
    jobs[0].cancel()
    assert names(queue.take()) == [1, 2]
    assert (queue.jobs, queue.rows) == (0, 0)


def test_a_sweep_removes_the_late_and_the_cancelled() -> None:
    jobs = [job(n, rows=2, deadline=float(n), high=n % 2 == 0) for n in range(6)]
    queue = queue_of(*jobs)
    jobs[4].cancel()
    assert sorted(names(queue.sweep(2.0))) == [0, 1, 2]
    assert (queue.jobs, queue.rows, queue.earliest) == (2, 4, 3.0)
    assert drain(queue) == [[3, 5]]


def test_it_is_full_by_jobs_and_by_rows_but_takes_a_giant_when_empty() -> None:
    queue = queue_of(queue_jobs=2, queue_rows=10)
    assert not queue.full(99)
    queue.put(job("a", 8))
    assert (queue.full(2), queue.full(3)) == (False, True)
    queue.put(job("b", 1))
    assert queue.full(0)
    queue.take()
    assert not queue.full(10)


def test_with_a_delay_a_batch_is_ripe_when_its_oldest_has_waited_or_when_it_is_full() -> None:
    queue = queue_of(max_delay_us=1000, max_rows=3)
    for arrived in (5.0, 4.0):
        each = job("a", group=arrived)
        each.arrived = arrived
        queue.put(each)
    assert queue.ripe_at() == 4.001
    queue.put(job("b"))
    assert queue.ripe_at() == 0.0


jobs_of = st.lists(
    st.builds(
        lambda rows, group, high, cancelled, deadline: (rows, group, high, cancelled, deadline),
        st.integers(1, 12),
        st.sampled_from("ab"),
        st.booleans(),
        st.integers(0, 5).map(lambda n: n == 0),
        st.sampled_from([1.0, NEVER, NEVER]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(jobs_of, st.integers(1, 16), st.sampled_from([(), (2, 4, 8)]), st.integers(1, 3))
def test_every_job_comes_out_once_in_a_lawful_batch(
    specs: list[Any], max_rows: int, preferred: tuple[int, ...], parts: int
) -> None:
    made = [job(n, s[0], s[1], s[2], s[4]) for n, s in enumerate(specs)]
    queue = queue_of(*made, max_rows=max_rows, preferred_rows=preferred, spread=True)
    for each, spec in zip(made, specs, strict=True):
        each.cancelled = spec[3]
    late = queue.sweep(2.0)
    batches = []
    while batch := queue.take(parts):
        batches.append(batch)
    out = [each for batch in batches for each in batch]
    assert sorted(names(out + late)) == [n for n, spec in enumerate(specs) if not spec[3]]
    assert all(each.deadline == 1.0 for each in late)
    for batch in batches:
        assert len({each.group for each in batch}) == 1
        assert len(batch) == 1 or sum(each.rows for each in batch) <= max_rows
    for group in "ab":
        for high in (True, False):
            order = [each.context for each in out if (each.group, each.high) == (group, high)]
            assert order == sorted(order)
    assert (queue.jobs, queue.rows) == (0, 0)


@pytest.mark.parametrize("high", [True, False])
def test_no_group_waits_for_ever(high: bool) -> None:
    queue = queue_of(job("late", group="z", high=high), max_rows=1)
    for n in range(3):
        for group in "ab":
            queue.put(job(f"{group}{n}", group=group, high=high))
    assert "late" in drain(queue)[0]
