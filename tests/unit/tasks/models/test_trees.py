"""Boosted trees on prepared rows."""

import numpy as np

from slipway.config import TreeConfig
from tasks.models import trees
from tasks.shards import Rows

ONE_SPLIT = TreeConfig(max_iter=1, learning_rate=1.0, max_leaf_nodes=2, seed=0)


def odd_codes() -> Rows:
    """Make rows whose label is 1 where the code is odd: no split of it as a number shows that."""
    codes = np.arange(400, dtype=np.int32) % 8
    noise = np.random.default_rng(0).normal(size=(400, 1)).astype(np.float32)
    return Rows(codes[:, None], noise, (codes % 2).astype(np.float32))


def test_trees_take_codes_for_categories_and_answer_with_the_chance_of_a_one():
    rows = odd_codes()
    answers = trees.fit(ONE_SPLIT, rows).predict(rows.categories, rows.numbers)
    assert answers.shape == (400,)
    assert ((answers > 0.5) == (rows.labels == 1)).all()
