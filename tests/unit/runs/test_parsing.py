"""Records out of JSON that may be odd."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from slipway.runs.parsing import parse


@dataclass(frozen=True)
class Bin:
    """Means nothing without its numbers."""

    predicted: float
    rows: int


@dataclass(frozen=True)
class Page:
    """What a stage may have written."""

    name: str = "?"
    rows: int | None = None
    rates: dict[str, float | int | None] = field(default_factory=dict)
    bins: tuple[Bin, ...] = ()
    last: Bin | None = None


@pytest.mark.parametrize("value", [None, [], "x", 3, [{"name": "a"}]])
def test_what_is_no_mapping_is_an_empty_record(value: Any) -> None:
    assert parse(Page, value) == Page()


def test_what_is_known_is_read_and_the_rest_left_out() -> None:
    value = {"name": "a", "rows": 3, "bins": [{"predicted": 0.5, "rows": 2, "new": 1}], "new": []}

    assert parse(Page, value) == Page("a", 3, bins=(Bin(0.5, 2),))


def test_a_value_that_does_not_fit_counts_as_not_written() -> None:
    value = {"name": ["a"], "rows": {}, "rates": {"a": 1, "b": "x", "c": None}, "last": "b"}

    assert parse(Page, value) == Page(rates={"a": 1, "c": None})


def test_of_a_list_only_the_odd_entries_are_left_out() -> None:
    odd = [None, {"predicted": "x", "rows": 1}, {"rows": 1}, {"predicted": 0.1, "rows": None}]
    good = [{"predicted": 0.1, "rows": 1}, {"predicted": 0.2, "rows": 2}]

    bins = parse(Page, {"bins": [good[0], *odd, good[1]]}).bins

    assert bins == (Bin(0.1, 1), Bin(0.2, 2))


def test_a_whole_number_stays_one() -> None:
    found = parse(Page, {"rates": {"rows": 28_378, "auc": 1.0}}).rates

    assert [type(value) for value in found.values()] == [int, float]
