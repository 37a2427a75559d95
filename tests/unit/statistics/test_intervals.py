"""Intervals, against their published formulas."""

import math

import pytest

from slipway.statistics.intervals import NORMAL_95, auc_interval, wilson


def test_the_interval_of_an_auc_is_hanley_and_mcneils() -> None:
    # AUC 0.5 with 50 and 50: variance (0.25 + 2 * 49 / 12) / 2500
    half = NORMAL_95 * math.sqrt((0.25 + 2 * 49 / 12) / 2500)

    assert auc_interval(0.5, 50, 100) == pytest.approx((0.5 - half, 0.5 + half))
    assert auc_interval(0.5, 0, 100) is None


def test_the_interval_of_a_share_is_wilsons() -> None:
    # no hit in 10: from 0 to z^2 / (n + z^2)
    assert wilson(0, 10) == pytest.approx((0, NORMAL_95**2 / (10 + NORMAL_95**2)))
