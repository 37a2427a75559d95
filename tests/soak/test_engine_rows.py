"""Millions of rows through engines that share threads: none goes astray."""

from functools import partial

import pytest

from tests.engines import ask_many_rows, on_loop, with_workers

ROWS = 10_000_000


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threads", [0, 2])
def test_of_ten_million_rows_none_goes_astray(threads: int, seed: int) -> None:
    if threads:
        with_workers(partial(ask_many_rows, ROWS, seed), threads)
    else:
        on_loop(ask_many_rows, ROWS, seed, None)
