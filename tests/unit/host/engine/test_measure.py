import itertools

import numpy as np
import pytest

from slipway.errors import BundleRefused, SlipwayError
from slipway.host.engine.cores import count_cores, read_quota
from slipway.host.engine.measure import (
    Measured,
    choose_batch,
    gains,
    measure,
    take_rows,
    warm,
)
from slipway.host.engine.memory import Budget, estimate, fits


class Model:
    """A model on a clock of its own: a fixed cost per run, and one per row."""

    def __init__(self, run_s: float, row_s: float) -> None:
        self.now = 0.0
        self.sizes: list[int] = []
        self._costs = run_s, row_s

    def run(self, inputs):
        rows = len(inputs["x"])
        self.sizes.append(rows)
        self.now += self._costs[0] + self._costs[1] * rows
        return inputs

    def measured(self, most_rows=256, budget_s=0.6):
        sample = {"x": np.zeros((10, 2), np.float32)}
        return measure(self.run, sample, most_rows, budget_s, lambda: self.now)


def test_a_slow_model_without_a_fixed_cost_has_batches_of_four():
    assert Model(0.0, 0.1).measured(budget_s=60).best_rows == 4


def test_a_faster_one_shares_what_the_hand_over_costs():
    assert Model(0.0, 0.001).measured(budget_s=6).best_rows == 32


def test_a_fixed_cost_is_shared_until_it_is_a_fiftieth():
    measured = Model(0.0001, 0.0001).measured()
    assert measured.best_rows == 32  # at 16 the share is 6 % of a row; the turn's own is 0.6 there
    assert measured.row_s == pytest.approx(0.0002)


def test_a_slow_model_is_measured_within_the_budget():
    model = Model(0.0, 0.05)
    measured = model.measured(budget_s=0.6)
    assert measured.best_rows == 4
    assert model.now <= 1.5


def test_a_model_slower_than_the_budget_is_measured_all_the_same():
    model = Model(0.0, 2.0)
    assert model.measured().row_s == 2.0
    assert model.sizes == [1, 1]


def test_a_whole_request_shares_no_run():
    model = Model(0.001, 0.001)
    assert model.measured(most_rows=0) == Measured(pytest.approx(0.011), 1)
    assert set(model.sizes) == {10}


def test_no_batch_is_larger_than_a_request_may_be():
    model = Model(0.01, 0.00001)
    assert model.measured(most_rows=20).best_rows == 20
    assert model.measured(most_rows=3).best_rows == 3
    assert max(model.sizes) == 20


def test_the_smallest_size_near_the_best_is_chosen():
    assert choose_batch({1: 1.0, 8: 0.52, 16: 0.5, 32: 0.51}, 256) == 8
    assert choose_batch({1: 1.0, 8: 0.53, 16: 0.5}, 256) == 16
    assert choose_batch({1: 0.0006, 8: 0.0006, 32: 0.0006, 64: 0.0006}, 256) == 64
    assert choose_batch({1: 0.0006, 8: 0.0006, 32: 0.0007, 64: 0.0007}, 256) == 8


def test_cheap_rows_run_inline():
    assert Measured(299e-6, 64).inline
    assert not Measured(301e-6, 64).inline


def test_rows_are_repeated_where_the_sample_is_short():
    rows = take_rows({"x": np.arange(3), "s": np.array(["a", "b", "c"], object)}, 5)
    assert rows["x"].tolist() == [0, 1, 2, 0, 1]
    assert rows["s"].tolist() == ["a", "b", "c", "a", "b"]


def test_every_size_is_run_before_a_model_serves():
    model = Model(0, 0)
    assert warm(model.run, {"x": np.zeros((2, 2))}, 7) == 7
    assert model.sizes == [1, 2, 4, 7, 3, 5, 6]


def test_the_likely_sizes_are_run_however_long_it_takes():
    model = Model(0, 0)
    assert warm(model.run, {"x": np.zeros((2, 2))}, 8, budget_s=0) == 4
    assert model.sizes == [1, 2, 4, 8]


def test_a_lone_row_gains_only_by_a_clear_margin():
    def sleeper(seconds):
        import time

        return lambda inputs: time.sleep(seconds) or inputs

    sample = {"x": np.zeros((2, 2))}
    assert gains(sleeper(0.004), sleeper(0.002), sample, 0.1)
    assert not gains(sleeper(0.004), sleeper(0.004), sample, 0.1)


def test_a_newcomer_fits_or_does_not():
    assert fits(100, {"a": 40, "b": 40}, 20)
    assert not fits(100, {"a": 40, "b": 40}, 21)
    assert not fits(100, {}, 101)


def test_each_session_holds_the_weights():
    one, two = estimate(100_000_000, 1), estimate(100_000_000, 2)
    assert one > 100_000_000
    assert two - one > 100_000_000


def test_what_does_not_fit_is_refused_and_what_is_held_stays():
    budget = Budget(100 << 20)
    budget.reserve("stable", 70 << 20)
    needs = r"needs about 40 MiB, and 1 loaded versions hold 70 "
    with pytest.raises(SlipwayError, match=needs) as caught:
        budget.reserve("candidate", 40 << 20)
    assert not isinstance(caught.value, BundleRefused)  # another host may have the room
    assert budget.held == {"stable": 70 << 20}


def test_what_was_measured_replaces_the_estimate():
    budget = Budget(100)
    budget.reserve("a", 90)
    budget.settle("a", 50, 20)
    budget.reserve("b", 50)
    budget.settle("b", -3, 20)  # the pages of an earlier model were used again
    assert budget.held == {"a": 50, "b": 20}
    budget.release("a")
    assert budget.held == {"b": 20}


def test_this_machine_has_cores():
    assert count_cores() >= 1


def quota_tree(tmp_path, files, own):
    for path, text in files.items():
        (tmp_path / "cg" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cg" / path).write_text(text)
    (tmp_path / "own").write_text(own)
    return tmp_path / "cg", tmp_path / "own"


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({}, "0::/\n", float("inf")),
        ({"cpu.max": "max 100000\n"}, "0::/\n", float("inf")),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "", float("inf")),
        (
            {"cpu/x/cpu.cfs_quota_us": "50000", "cpu/x/cpu.cfs_period_us": "100000"},
            "4:cpu,cpuacct:/x\n1:memory:/y\n",
            0.5,
        ),
    ],
)
def test_the_smallest_quota_of_the_cgroups_counts(tmp_path, files, own, expected):
    assert read_quota(*quota_tree(tmp_path, files, own)) == expected


def test_a_part_of_a_core_is_a_core(tmp_path):
    assert count_cores(*quota_tree(tmp_path, {"cpu.max": "50000 100000"}, "0::/\n")) == 1


def test_sizes_double():
    model = Model(0.001, 0)
    model.measured(most_rows=12)
    assert [size for size, _ in itertools.groupby(model.sizes)] == [1, 2, 4, 8, 12]
