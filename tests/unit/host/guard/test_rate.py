import random

import pytest

from slipway.host.guard.rate import DAY_S, Allowance, RateLimits, Used
from tests.support.pace import cpu_s

NOON = 20_000 * DAY_S + DAY_S // 2


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Bench:
    """One allowance and its two clocks."""

    def __init__(self, *limits) -> None:
        self.clock, self.wall = Clock(1000.0), Clock(NOON)
        self.allowance = Allowance(RateLimits(*limits), self.clock, self.wall)

    def take(self, rows: int = 1, after_s: float = 0) -> float:
        self.clock.now += after_s
        self.wall.now += after_s
        return self.allowance.take(rows)


def test_a_pause_allows_a_burst_and_then_the_rate_holds():
    bench = Bench(10, 5, None)
    assert [bench.take() for _ in range(6)] == [0, 0, 0, 0, 0, 0.1]
    assert bench.take(after_s=0.1) == 0
    assert bench.take() == pytest.approx(0.1)
    assert [bench.take(after_s=60) for _ in range(1)] == [0]
    assert [bench.take() for _ in range(5)] == [0, 0, 0, 0, pytest.approx(0.1)]


def test_whoever_waits_as_long_as_told_gets_through():
    bench = Bench(3, 2, None)
    bench.take(2)
    assert bench.take(after_s=bench.take() + 1e-9) == 0


def test_a_refusal_takes_nothing():
    bench = Bench(1, 1, None)
    bench.take()
    assert [bench.take() for _ in range(100)] == [1] * 100
    assert bench.take(after_s=1) == 0


def test_a_request_larger_than_the_burst_passes_when_it_is_full_and_leaves_a_debt():
    bench = Bench(10, 5, None)
    assert bench.take(25) == 0
    assert bench.take(1) == pytest.approx(2.1)
    assert bench.take(25, after_s=2.4) == pytest.approx(0.1)
    assert bench.take(25, after_s=0.1000001) == 0


def test_over_time_the_average_is_the_rate_whatever_the_requests_are():
    bench, rng, taken = Bench(50, 20, None), random.Random(7), 0
    for _ in range(20_000):
        rows = rng.choice([1, 1, 1, 7, 64])
        if bench.take(rows, after_s=rng.random() * 0.02) == 0:
            taken += rows
    assert taken / (bench.clock.now - 1000) == pytest.approx(50, rel=0.01)


def test_a_quota_ends_at_midnight_in_utc():
    bench = Bench(None, 1, 100)
    assert bench.take(100) == 0
    assert bench.take(1) == DAY_S / 2
    assert bench.take(1, after_s=DAY_S / 2 - 1) == 1
    assert bench.take(1, after_s=1) == 0
    assert bench.allowance.used == Used(20_001, 1)


def test_a_request_over_what_is_left_takes_nothing_and_a_smaller_one_passes():
    bench = Bench(None, 1, 100)
    bench.take(99)
    assert bench.take(2) > 0
    assert bench.take(1) == 0


def test_the_quota_is_not_charged_for_what_the_rate_refuses():
    bench = Bench(1, 1, 100)
    bench.take()
    bench.take()
    assert bench.allowance.used.rows == 1


def test_a_clock_that_was_wrong_and_is_put_right_does_not_keep_a_key_out():
    bench = Bench(None, 1, 100)
    bench.wall.now += 365 * DAY_S
    bench.take(100)
    bench.wall.now -= 365 * DAY_S
    assert bench.take(100) == 0


def test_without_limits_everything_passes():
    bench = Bench(None, 1, None)
    assert bench.take(10**9) == 0
    assert bench.take(10**9) == 0


def test_limits_that_change_hold_at_once():
    bench = Bench(None, 1, None)
    bench.take(1000)
    bench.allowance.limits = RateLimits(1, 1, 2000)
    assert bench.take(1000) > 0
    assert bench.take(1, after_s=1000) == 0


def test_what_was_taken_without_a_rate_is_no_debt_but_the_last_request():
    bench = Bench(None, 1, None)
    for _ in range(3):
        bench.take(1000)
    bench.allowance.limits = RateLimits(1, 1, None)
    assert bench.take(1) == 1000
    assert bench.take(1, after_s=1000) == 0


def test_each_of_several_processes_has_its_part_and_at_least_a_row():
    assert RateLimits(10, 8, 100).divide(4) == RateLimits(2.5, 2, 25)
    assert RateLimits(None, 1, None).divide(4) == RateLimits(None, 1, None)
    assert RateLimits(1, 1, 2).divide(4) == RateLimits(0.25, 1, 1)


def test_taking_costs_about_a_microsecond():
    allowance = Allowance(RateLimits(1e9, 10**9, 10**15))
    assert cpu_s(lambda: [allowance.take(1) for _ in range(2000)]) / 2000 < 10e-6
