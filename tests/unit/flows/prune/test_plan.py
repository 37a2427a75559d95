from datetime import UTC, datetime, timedelta

import pytest

from flows.prune.plan import (
    DECISIONS_KEPT,
    Item,
    Need,
    Rules,
    Stored,
    decided,
    reasons_for_bundles,
    reasons_for_runs,
    sort,
)
from slipway.runs.run import Run

NOW = datetime(2026, 11, 30, tzinfo=UTC)
RULES = Rules(NOW, keep_runs=2, keep_days=10)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def run(name: str, days: float, **more) -> Run:
    return Run(run=name, started_at=ago(days).isoformat(), state="completed", **more)


def kept(*runs: Run, released=(), named=(), rules: Rules = RULES) -> list[str]:
    return list(reasons_for_runs(runs, released, named, rules))


def test_the_newest_records_stay_however_old():
    runs = [run(f"r{i}", 100 + i) for i in range(4)]
    assert kept(*runs) == ["r0", "r1"]


def test_young_records_stay_however_many():
    runs = [run(f"r{i}", i) for i in range(20)]
    assert kept(*runs) == [f"r{i}" for i in range(10)]


def test_a_record_that_a_released_version_leads_back_to_stays():
    runs = [run(f"r{i}", 100 + i, version=f"v{i}") for i in range(5)]
    assert kept(*runs, released={"v3"}, named={"r4"}) == ["r0", "r1", "r3", "r4"]


def test_a_run_that_goes_on_stays():
    old = [run(f"r{i}", 100 + i) for i in range(3)]
    going = Run(run="x", started_at=ago(400).isoformat(), state="running")
    assert "x" in kept(*old, going)


def test_a_record_that_says_no_time_stays():
    assert kept(run("a", 1), run("b", 1), Run(run="c", state="failed")) == ["a", "b", "c"]


V = [f"{i:064x}" for i in range(20)]


def stored(i: int, days: float | None = 100) -> Stored:
    return Stored("m", V[i], None if days is None else ago(days))


def names(*bundles: Stored, needs=()) -> set[str]:
    return {name[-2:] for name in reasons_for_bundles(bundles, needs, RULES)}


def test_a_bundle_that_something_needs_stays_and_others_go():
    needs = [Need("m", V[1], "it is stable on f"), Need("other", V[2], "it is stable on f")]
    assert names(stored(1), stored(2), needs=needs) == {"01"}


def test_a_bundle_stays_while_it_is_young_or_of_no_known_age():
    assert names(stored(1, 9.9), stored(2, 10.1), stored(3, None)) == {"01", "03"}


def entry(i: int, days: float, decision: str = "promoted", **more) -> dict[str, object]:
    told = {"decision": decision, "version": V[i], "at": ago(days).isoformat()}
    return {"previous": None, **told, **more}


def versions(*entries: dict[str, object]) -> set[str]:
    return {need.version for need in decided("m", entries, RULES)}


def test_the_newest_decisions_need_their_versions_and_those_before():
    entries = [entry(i, 100 - i, previous=V[i - 1] if i else None) for i in range(15)]
    assert versions(*entries) == set(V[15 - DECISIONS_KEPT - 1 : 15])


def test_that_a_version_serves_already_pushes_no_decision_out():
    entries = [entry(1, 100), *(entry(2, 50, "already serves") for _ in range(30))]
    assert versions(*entries) == {V[1]}


def test_every_decision_of_the_last_days_counts():
    old = [entry(0, 50) for _ in range(20)]
    recent = [entry(i, 5) for i in range(1, 15)]
    assert versions(*old, *recent) >= set(V[1:15])


def test_a_rejected_version_that_nothing_else_needs_goes_in_time():
    entries = [entry(3, 99, "rejected"), *(entry(i, 50) for i in range(4, 4 + DECISIONS_KEPT))]
    assert V[3] not in versions(*entries)


@pytest.mark.parametrize("size", [0, 7])
def test_the_table_counts_what_goes_and_why_the_rest_stays(size: int):
    items = [Item(name, (), size) for name in "abc"]
    found = sort("runs", items, {"a": "young", "c": "young"})
    assert [item.name for item in found.goes] == ["b"]
    assert (found.size_bytes, found.kept) == (size, {"young": 2})
