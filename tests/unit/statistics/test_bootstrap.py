"""Intervals around what two models differ by: they cover, and units are what is drawn."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from slipway.statistics.bootstrap import Interval, paired


def mean_of(values: np.ndarray) -> Callable[[np.ndarray], float | None]:
    """Measure the mean by weight, as a model's loss against another's."""
    return lambda weights: float(np.average(values, weights=weights))


def interval(values: np.ndarray, units: np.ndarray, weights: np.ndarray | None = None) -> Interval:
    found = paired(mean_of(values), units, weights)
    assert found is not None
    return found


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, 10_000)
    found = interval(values, np.arange(10_000))
    half = 1.96 * values.std() / 100
    assert found.value == values.mean()
    # ends of 400 resamples move by a tenth of the half width
    assert found.low == pytest.approx(values.mean() - half, abs=0.25 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.25 * half)


def test_95_of_100_intervals_cover_what_is_true() -> None:
    dice, covered = np.random.default_rng(1), 0
    for _ in range(100):
        days = dice.normal(size=60)  # what the rows of a day have in common
        units = np.repeat(np.arange(60), 20)
        found = interval(days[units] + dice.normal(size=1200), units)
        covered += found.low <= 0.0 <= found.high
    # three standard deviations of 100 draws of 0.95 are 0.065; 60 units lose some 0.01 more
    assert 86 <= covered <= 100


def test_units_are_drawn_and_not_rows() -> None:
    values, units = np.random.default_rng(2).normal(size=200), np.arange(200) // 4
    once = interval(values, units)
    often = interval(np.repeat(values, 50), np.repeat(units, 50))
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-12)
    rows = interval(np.repeat(values, 50), np.arange(10_000))
    assert rows.high - rows.low < (once.high - once.low) / 3


def test_rows_that_resemble_each_other_widen_the_interval() -> None:
    dice = np.random.default_rng(3)
    values = np.repeat(dice.normal(size=50), 20)
    by_unit = interval(values, np.repeat(np.arange(50), 20))
    by_row = interval(values, np.arange(1000))
    # 20 rows that say the same are one: sqrt(20) = 4.5 times as wide
    assert (by_unit.high - by_unit.low) / (by_row.high - by_row.low) == pytest.approx(4.5, rel=0.2)


def test_the_names_of_units_and_the_order_of_rows_of_a_unit_do_not_matter() -> None:
    dice = np.random.default_rng(4)
    values, units = dice.normal(size=300), np.arange(300) // 10
    assert interval(values, units * 1_000_003 - 2**40) == interval(values, units)


def test_the_same_rows_have_the_same_interval_again() -> None:
    values, units = np.random.default_rng(5).normal(size=300), np.arange(300) // 10
    assert interval(values, units) == interval(values, units)


def test_a_row_counts_by_its_weight() -> None:
    values, units = np.random.default_rng(6).normal(size=300), np.arange(300) // 3
    counts = np.tile([0.0, 1.0, 3.0], 100)
    weighted = interval(values, units, counts)
    repeated = interval(np.repeat(values, counts.astype(int)), np.repeat(units, counts.astype(int)))
    for end in ("value", "low", "high"):
        assert getattr(weighted, end) == pytest.approx(getattr(repeated, end), abs=1e-12)


def test_two_that_never_differ_have_an_interval_of_nothing() -> None:
    assert interval(np.zeros(100), np.arange(100)) == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_where_nothing_can_be_told_there_is_no_interval(nothing: Any) -> None:
    assert paired(lambda weights: nothing, np.arange(100)) is None


def test_draws_that_cannot_tell_are_left_out() -> None:
    values = np.random.default_rng(7).normal(size=50)

    def now_and_then(weights: np.ndarray) -> float | None:
        return None if weights[0] == 0 else mean_of(values)(weights)

    found = paired(now_and_then, np.arange(50))
    assert found is not None
    assert found.low < found.value < found.high


def test_one_unit_alone_tells_nothing_of_how_far_others_may_lie() -> None:
    found = paired(mean_of(np.random.default_rng(8).normal(size=1000)), np.zeros(1000, np.int64))
    assert found is None or found.high - found.low > 0.01
