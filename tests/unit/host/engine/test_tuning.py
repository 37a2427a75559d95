"""The controller against simulated models: it settles, on good settings, within bounds."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.host.engine.engine import Workers
from slipway.host.engine.job import Batch
from slipway.host.engine.queue import Batching
from slipway.host.engine.tuning import BUSY, Tuner, TuningSettings, Window, tune
from tests.engines import Bench, on_loop


@dataclass(frozen=True)
class Load:
    """A model of `fixed + row * rows` ms a run, and callers that each wait for their answer."""

    fixed_ms: float
    row_ms: float
    callers: int
    think_ms: float = 0.0
    noise: float = 0.0

    def measure(self, at: TuningSettings, n: int = 0) -> Window:
        """Return what a window would show: in each round every caller is answered once."""
        runs = math.ceil(self.callers / at.rows)
        round_ms = runs * self.fixed_ms + self.callers * self.row_ms
        run_ms = round_ms / runs
        wiggle = 1 + self.noise * math.sin(n * 2.4)
        full = self.callers >= at.rows
        delay_ms = 0 if full else at.delay_us / 1000
        busy = run_ms / max(run_ms + delay_ms, self.think_ms)
        p95_ms = round_ms + delay_ms
        row_ms = round_ms / self.callers
        return Window(p95_ms * wiggle, run_ms * wiggle, row_ms * wiggle, full, busy)


def follow(load: Load, at: TuningSettings, windows: int = 150) -> list[TuningSettings]:
    course = [at]
    for n in range(windows):
        course.append(tune(course[-1], load.measure(course[-1], n)))
    return course


loads = st.builds(
    Load,
    fixed_ms=st.floats(0.01, 20),
    row_ms=st.floats(0.001, 5),
    callers=st.integers(1, 300),
    think_ms=st.floats(0, 100),
)
starts = st.builds(
    TuningSettings,
    target_ms=st.floats(1, 500),
    rows=st.sampled_from([1, 2, 8, 32, 64]),
    rows_max=st.just(64),
    delay_us=st.sampled_from([0, 500, 4000]),
    delay_max_us=st.sampled_from([4000, 20_000]),
)


@settings(max_examples=150, deadline=None)
@given(loads, starts)
def test_it_settles_and_stays_within_its_bounds(load: Load, start: TuningSettings) -> None:
    course = follow(load, start)
    assert all(1 <= at.rows <= at.rows_max for at in course)
    assert all(0 <= at.delay_us <= at.delay_max_us for at in course)
    assert len({at.rows for at in course[-10:]}) == 1
    delays_us = [at.delay_us for at in course[-10:]]
    assert max(delays_us) - min(delays_us) <= round(start.target_ms * 50)  # one step


@settings(max_examples=150, deadline=None)
@given(loads, starts)
def test_it_changes_one_thing_by_one_step_at_a_time(load: Load, start: TuningSettings) -> None:
    for before, after in pairwise(follow(load, start)):
        assert after.rows in (before.rows, before.rows * 2, before.rows // 2)
        assert after.rows == before.rows or after.delay_us == before.delay_us


@settings(max_examples=150, deadline=None)
@given(loads, starts, st.floats(0, 0.04))
def test_noise_moves_it_by_one_step_at_most(
    load: Load, start: TuningSettings, noise: float
) -> None:
    settled = follow(replace(load, noise=noise), start, 200)[-60:]
    rows = sorted({at.rows for at in settled})
    assert rows[-1] <= 2 * rows[0]


@settings(max_examples=150, deadline=None)
@given(loads, starts)
def test_it_meets_the_target_where_any_size_does_or_comes_near_the_best(
    load: Load, start: TuningSettings
) -> None:
    start = replace(start, delay_us=0)
    last = follow(load, start)[-1]
    best = min(load.measure(replace(last, rows=2**n, delay_us=0)).p95_ms for n in range(7))
    p95 = load.measure(replace(last, delay_us=0)).p95_ms
    assert p95 <= max(start.target_ms, 1.35 * best)


def test_a_size_that_gains_nothing_is_given_up() -> None:
    load = Load(fixed_ms=0.1, row_ms=1.0, callers=64)
    assert follow(load, TuningSettings(1000, 32, 64))[-1].rows <= 32
    assert follow(load, TuningSettings(1000, 1, 64))[-1].rows == 1


def test_a_fixed_cost_is_spread_over_many_rows() -> None:
    load = Load(fixed_ms=10, row_ms=0.1, callers=64)
    assert follow(load, TuningSettings(100, 1, 64))[-1].rows == 64


def test_a_batch_is_kept_shorter_than_half_the_target_where_that_costs_nothing() -> None:
    slow = Window(p95_ms=50, run_ms=40, row_ms=1, full=True, busy=1)
    assert tune(TuningSettings(20, 40, 64), slow).rows == 20


def test_delay_grows_slowly_while_busy_and_falls_fast_when_late() -> None:
    calm = Window(p95_ms=5, run_ms=1, row_ms=1, full=False, busy=BUSY + 0.1)
    at = TuningSettings(target_ms=10, rows=8, rows_max=8, delay_max_us=1200)
    course = [at := tune(at, calm) for _ in range(3)]
    assert [each.delay_us for each in course] == [500, 1000, 1200]
    late = replace(calm, p95_ms=11)
    course = [at := tune(at, late) for _ in range(2)]
    assert [each.delay_us for each in course] == [600, 0]


def test_an_idle_engine_never_waits() -> None:
    idle = Window(p95_ms=1, run_ms=1, row_ms=1, full=False, busy=0.1)
    assert tune(TuningSettings(10, 8, 8, 0, 5000), idle).delay_us == 0
    assert tune(TuningSettings(10, 8, 8, 800, 5000), idle).delay_us == 300
    assert tune(TuningSettings(10, 8, 8, 300, 5000), idle).delay_us == 0


def test_the_tuner_acts_once_a_second_on_what_it_measured() -> None:
    tuner = Tuner(TuningSettings(target_ms=100, rows=1, rows_max=64))
    batching, now, changes = Batching(max_rows=1), 0.0, []
    for n in range(310):
        batch = Batch(n, batching.max_rows, batching.max_rows, now, now + 0.01)
        now += 0.01
        before = batching
        jobs = [Bench().job(0, 1.0, arrived=now - 0.5) for _ in range(batch.jobs)]
        batching = tuner.after(batch, jobs, batching)
        if batching is not before:
            changes.append((round(now, 1), batching.max_rows))
    assert changes == [(1.0, 2), (2.0, 4), (3.0, 8)]


def test_an_engine_takes_over_what_its_tuner_says() -> None:
    class Doubles(Tuner):
        def after(self, batch: Batch, jobs: object, batching: Batching) -> Batching:
            return replace(batching, max_rows=batching.max_rows * 2)

    async def test(workers: Workers | None = None) -> None:
        bench = Bench(workers, tuner=Doubles(TuningSettings(1, 1, 8)), max_rows=1)
        for n in range(7):
            bench.ask(n, 1.0)
        await bench.settle(7)
        assert bench.runner.runs == [1, 2, 4]
        assert bench.engine.batching.max_rows == 8

    on_loop(test)
