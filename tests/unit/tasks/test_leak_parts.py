"""Large sources are looked at in parts, and everything once."""

import pytest

from tasks import query
from tasks.leaks import find_leaks, parts
from tasks.leaks.pools import place_patterns
from tests.odd_tables import config, opened, select


@pytest.fixture(autouse=True)
def _large_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 60)


def leaks(sql: str) -> list[str]:
    with opened() as database:
        section = config(database, sql)
        query.keep(database, section)
        before = database.execute("SELECT sum(hash(hash(o))) FROM orders o").fetchall()
        found = find_leaks(database, section)
        assert database.execute("SELECT sum(hash(hash(o))) FROM orders o").fetchall() == before
        return found


FEATURES = {
    "a value of one row only": "o.status = 'fraud'",
    "parity": "o.code % 2",
    "is missing": "o.closed IS NULL",
    "comes back": "o.id IN (SELECT id FROM returns)",
    "the only value": "o.currency",
    "of a batch": "avg(o.refund) OVER (PARTITION BY o.batch)",
    "known": "o.amount * p.price",
    "known of a batch": "(SELECT sum(z.amount) FROM orders z WHERE z.batch = o.batch)",
}
LEAKS = sorted(name for name in FEATURES if not name.startswith("known"))


@pytest.mark.parametrize("where", ["true", "o.status <> 'lost'"])
def test_parts_show_what_everything_would(where: str) -> None:
    assert leaks(select(FEATURES, where)) == LEAKS


def test_a_query_that_stands_no_part_is_run_on_everything() -> None:
    every = "(SELECT CASE WHEN count(*) < 500 THEN error('in part') ELSE 1 END FROM orders) = 1"
    assert leaks(select(FEATURES, every)) == LEAKS


def test_a_query_over_parts_may_name_the_numbers_of_rows() -> None:
    assert leaks(select({"x": "o.rowid", "y": "o.rowid + o.visit.n"})) == ["y"]


def test_a_source_is_parted_by_the_key_where_all_large_ones_have_it() -> None:
    with opened() as database:
        tables = [
            parts.SourceTable(name, name, {"id": "BIGINT", own: "BIGINT"}, (), None)
            for name, own in (("orders", "batch"), ("returns", "why"))
        ]
        planned = parts.plan_sampling(database, tables, ["id", "batch"])
        assert planned == parts.Sampling(("orders",), ("id", "batch"), 8)
        both = [
            parts.SourceTable(name, "orders", t.types, (), None)
            for name, t in zip("ab", tables, strict=True)
        ]
        assert parts.plan_sampling(database, both, ["id", "batch"]) == parts.Sampling(
            ("a", "b"), ("id",), 8
        )
        assert parts.plan_sampling(database, both, ["batch"]) is None


def test_each_common_pattern_has_its_place_and_single_rows_take_from_all() -> None:
    places = place_patterns([(10, 5), (20, 3), (31, 1)])
    assert {10: places[10 % len(places)], 20: places[20 % len(places)]} == {10: (0, 5), 20: (5, 3)}
    assert set(places) - {(0, 5), (5, 3)} <= {(0, 9)}
    assert place_patterns([(7, 1)]) == [(0, 1)]
