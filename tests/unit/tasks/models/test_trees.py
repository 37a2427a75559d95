"""Boosted trees on prepared rows."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from slipway.problem import PROBLEMS
from tasks.shards import Rows
from tests.unit.tasks.models.small_families import fit_trees, make_small


def odd_codes() -> Rows:
    """Make rows whose label is 1 where the code is odd: no split of it as a number shows that."""
    codes = np.arange(400, dtype=np.int32) % 8
    noise = np.random.default_rng(0).normal(size=(400, 1)).astype(np.float32)
    return Rows(codes[:, None], noise, (codes % 2).astype(np.float64), np.arange(400))


def test_trees_take_codes_for_categories_and_answer_with_the_chance_of_a_one():
    small = replace(make_small("binary"), rows=odd_codes())
    model = fit_trees(
        small, iterations=1, learning_rate=1.0, leaves=2, min_leaf_rows=1,
        row_share=1.0, column_share=1.0,
    )  # fmt: skip
    scores = model.score(small.rows.categories, small.rows.numbers)
    assert scores.shape == (400, 1)
    answers = PROBLEMS["binary"].respond(scores, 1.0)
    assert ((answers > 0.5) == (small.rows.labels == 1)).all()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_round_is_told_with_its_loss_on_the_stop_rows(problem: str):
    heard: list[tuple[int, float]] = []
    stop = make_small(problem, seed=1).rows
    model = fit_trees(
        make_small(problem), stop=stop, progress=lambda *told: heard.append(told), patience=8
    )
    assert [done for done, _ in heard] == list(range(1, 9))
    told = heard[model.best_round - 1][1]
    assert told == min(loss for _, loss in heard)
    answers = PROBLEMS[problem].respond(model.score(stop.categories, stop.numbers), 1.0)
    measured = PROBLEMS[problem].stopping(stop.labels, answers)
    assert told == pytest.approx(measured, rel=1e-4)


def test_a_loss_of_numbers_is_told_in_the_targets_own_unit():
    heard: list[tuple[int, float]] = []
    small = make_small("regression")
    model = fit_trees(small, progress=lambda *told: heard.append(told))
    answers = model.score(small.rows.categories, small.rows.numbers)[:, 0]
    measured = PROBLEMS["regression"].stopping(small.rows.labels, answers)
    assert heard[model.best_round - 1][1] == pytest.approx(measured, rel=1e-3)


def test_rounds_that_do_not_help_the_stop_rows_are_not_kept():
    small = make_small("binary")
    contrary = replace(small.rows, labels=1 - small.rows.labels)
    assert fit_trees(small, stop=contrary, iterations=50, patience=3).best_round == 1


def test_a_row_that_counts_nothing_teaches_nothing():
    small = make_small("regression")
    aside = np.arange(600) < 200
    wrong = replace(
        small.rows, labels=small.rows.labels + aside * 1e6, weights=np.where(aside, 0.0, 1.0)
    )
    scores = fit_trees(replace(small, rows=wrong)).score(wrong.categories, wrong.numbers)
    assert np.abs(scores[:, 0] - small.rows.labels).max() < 500


def test_what_was_learned_is_counted():
    model = fit_trees(make_small("multiclass"), iterations=4, patience=4)
    assert model.best_round == 4
    # 4 rounds of 3 trees of 6 leaves, and a node above every two
    assert model.parameters == 4 * 3 * 11


def test_trees_can_be_fitted_again_in_the_same_process():
    code = (
        "from tasks.models import load_family; trees = load_family('trees');"
        " import tasks.models.trees.boosting; assert callable(trees.fit)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
