"""Where a source says when its outcomes became known, later rows may use them; earlier ones not."""

import duckdb
import pytest

from slipway.config import IngestConfig
from tasks import query
from tasks.leaks import find_leaks

ROWS = 600

TRIPS = f"""
    CREATE TEMP TABLE trips AS
    SELECT * REPLACE (CASE WHEN landed IS NOT NULL THEN delay END AS delay) FROM (SELECT
        i AS id,
        TIMESTAMP '2024-03-01' + to_minutes(10 * (i // 2)) AS moment,  -- two at a time
        i % 60 AS line,
        hash(i * 3) % 100 / 10.0 AS load,
        hash(i * 5) % 1000 / 7.0 - 40 AS delay,
        i = 444 AS lost,
        hash(i * 7) % 3 = 0 AS full,
        CASE WHEN hash(i * 11) % 25 > 0 THEN TIMESTAMP '2024-03-01' + to_minutes(10 * (i // 2))
            + to_minutes(CAST(5 + hash(i * 13) % 110 AS INT)) END AS landed
    FROM range({ROWS}) AS r(i))
"""


def leaks(
    features: dict[str, str], where: str = "true", known_at: str | None = "landed"
) -> list[str]:
    columns = {"id": "int64", "moment": "datetime", "line": "int64", "load": "float64"}
    later = {"delay": "float64", "lost": "bool", "full": "bool", "landed": "datetime"}
    source = {"url": "file:///trips.csv", "columns": columns | later, "known_later": [*later]}
    chosen = "".join(f', {expression} AS "{name}"' for name, expression in features.items())
    section = IngestConfig.model_validate(
        {
            "sources": {"trips": {**source, "known_at": known_at}},
            "query": f"SELECT t.id, t.moment, t.delay > 20 AS late{chosen} FROM trips t"
            f" WHERE {where}",
            "key": ["id"],
            "time": "moment",
            "target": {"problem": "binary", "column": "late", "positive": 1, "negative": 0},
            "weight": None,
        }
    )
    with duckdb.connect() as database:
        database.execute("SET threads = 2")  # wherever the tests run
        database.execute(TRIPS)
        query.keep(database, section)
        query.require_repeatable(database, section)
        return find_leaks(database, section)


PAST = {
    "mean of those that had landed": "(SELECT avg(o.delay) FROM trips o WHERE o.landed < t.moment)",
    "mean of the day before":
        "(SELECT avg(o.delay) FROM trips o WHERE CAST(o.moment AS DATE) ="
        " CAST(t.moment AS DATE) - 1 AND o.landed < CAST(t.moment AS DATE))",
    "the last that had landed":
        "(SELECT arg_max(o.delay, (o.landed, o.id)) FROM trips o WHERE o.landed < t.moment)",
    "on this line":
        "(SELECT max(o.delay) FROM trips o WHERE o.line = t.line AND o.landed < t.moment)",
    "landed in the last two hours":
        "(SELECT count(*) FROM trips o WHERE o.landed < t.moment"
        " AND o.landed >= t.moment - INTERVAL 2 HOUR)",
    "full ones": "(SELECT count_if(o.full) FROM trips o WHERE o.landed < t.moment)",
    "on their way":
        "(SELECT count(*) FROM trips o WHERE o.moment < t.moment AND NOT coalesce("
        "o.landed < t.moment, false))",
    "load": "t.load",
    "load before":
        "(SELECT arg_max(o.load, o.id) FROM trips o WHERE o.line = t.line AND o.id < t.id)",
}  # fmt: skip

FUTURE = {
    "its own": "t.delay",
    "its own flag": "t.full",
    "whether it landed": "t.landed IS NULL",
    "a flag of one row": "t.lost",
    "the hour it landed": "hour(t.landed)",
    "the row before, that was in the air": "lag(t.delay) OVER (ORDER BY t.moment, t.id)",
    "the one beside it":
        "(SELECT sum(o.delay) FROM trips o WHERE o.moment = t.moment AND o.id <> t.id)",
    "those that left before": "(SELECT avg(o.delay) FROM trips o WHERE o.moment < t.moment)",
    "of the whole day":
        "(SELECT avg(o.delay) FROM trips o WHERE CAST(o.moment AS DATE) = CAST(t.moment AS DATE))",
    "landed before it landed": "(SELECT count(*) FROM trips o WHERE o.landed <= t.landed)",
    "a minute too much":
        "(SELECT sum(o.delay) FROM trips o WHERE o.landed < t.moment + INTERVAL 1 MINUTE)",
    "of the line": "avg(t.delay) OVER (PARTITION BY t.line)",
    "share of all": "t.load / (SELECT sum(delay) FROM trips)",
    "the next": "lead(t.full) OVER (PARTITION BY t.line ORDER BY t.moment)",
    "rank": "rank() OVER (ORDER BY t.delay)",
    "the first of all": "(SELECT first(delay ORDER BY id) FROM trips)",
    "mean of those to come": "(SELECT avg(o.delay) FROM trips o WHERE o.landed > t.moment)",
}  # fmt: skip


@pytest.mark.parametrize("where", ["true", "t.delay IS NOT NULL", "coalesce(t.full, false)"])
def test_outcomes_that_were_known_may_be_used(where: str) -> None:
    assert leaks(PAST, where) == []


@pytest.mark.parametrize("where", ["true", "t.delay IS NOT NULL"])
def test_outcomes_that_were_not_are_leaks(where: str) -> None:
    assert set(FUTURE) - set(leaks(FUTURE, where)) == set()


def test_where_nobody_says_when_no_outcome_may_be_used() -> None:
    assert leaks(PAST, known_at=None) == sorted(set(PAST) - {"load", "load before"})


def test_a_row_that_landed_as_another_was_asked_for_was_not_known_before() -> None:
    at_once = "(SELECT sum(o.delay) FROM trips o WHERE o.landed <= t.moment)"
    assert leaks({"x": at_once}) == ["x"]
