"""What depends on the future is found, however it is computed; what does not is left alone."""

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.errors import SlipwayError
from tasks import query
from tasks.leaks import find_leaks
from tests.later_tables import LATER, config, loaded, select


def leaks(sql: str, key: list[str] | None = None, rows: int = 300) -> list[str]:
    section = config(sql, key)
    with loaded(rows) as database:
        query.keep(database, section)
        query.require_repeatable(database, section)
        return find_leaks(database, section)


UNLABELLED = "t.delay IS NOT NULL"

PLANTED = {
    "copy": "t.delay",
    "difference": "t.arr - t.dep",
    "sign of a difference": "sign(t.arr - t.dep - 100)",
    "hardly any weight": "t.size + 1e-9 * t.dep",
    "rank": "rank() OVER (ORDER BY t.dep)",
    "row number": "row_number() OVER (ORDER BY t.delay, t.id)",
    "reversed order": "row_number() OVER (ORDER BY t.dep DESC, t.id)",
    "quarter": "ntile(4) OVER (ORDER BY t.arr, t.id)",
    "threshold": "t.dep > 700",
    "rare threshold": "t.dep > 850",
    "is missing": "t.reason IS NULL",
    "is there": "CAST(t.landed IS NOT NULL AS INT)",
    "the row before": "lag(t.delay) OVER (ORDER BY t.id)",
    "the row after": "lead(t.flag) OVER (ORDER BY t.moment)",
    "flag": "t.flag",
    "inverted flag": "CASE WHEN t.flag THEN 0 ELSE 1 END",
    "running count": "count_if(t.flag) OVER (ORDER BY t.id)",
    "remainder": "CAST(t.dep AS INT) % 17",
    "bit": "t.gate & 1",
    "average of the group": "avg(t.delay) OVER (PARTITION BY t.kind)",
    "least of the group": "min(t.dep) OVER (PARTITION BY t.grp)",
    "size of the group": "count(*) OVER (PARTITION BY t.gate)",
    "values in the group": "count(DISTINCT t.reason) OVER (PARTITION BY t.id // 5)",
    "average of the others":
        "(SELECT avg(o.delay) FROM things o WHERE o.grp = t.grp AND o.id <> t.id)",
    "average of all": "t.size / (SELECT avg(delay) FROM things)",
    "most of all": "(SELECT max(dep) FROM things)",
    "concatenation": "'because ' || t.reason",
    "length": "length(t.reason)",
    "first letter": "t.reason[1]",
    "hash": "hash(t.reason) % 10",
    "text against text": "t.reason > t.kind",
    "hour": "date_part('hour', t.landed)",
    "day": "date_trunc('day', t.landed)",
    "minutes until": "date_diff('minute', t.moment, t.landed)",
    "fallback": "coalesce(t.reason, t.kind)",
    "two columns are equal": "CASE WHEN t.gate = CAST(t.flag AS INT) THEN 1 ELSE 0 END",
    "a row exists": "EXISTS (SELECT 1 FROM cancels c WHERE c.id = t.id)",
    "rows before": "(SELECT count(*) FROM cancels c WHERE c.id < t.id)",
    "a row's value": "(SELECT why FROM cancels c WHERE c.id = t.id)",
    "inside a struct": "{'size': t.size, 'dep': t.dep}",
    "of one row only": "CASE WHEN t.id = 20 THEN t.dep END",
    "the same everywhere": "t.same",
    "nowhere": "t.empty IS NULL",
}  # fmt: skip


@pytest.mark.parametrize("where", ["true", UNLABELLED])
def test_every_planted_leak_is_found(where: str) -> None:
    assert set(PLANTED) - set(leaks(select_all(PLANTED, where))) == set()


def select_all(expressions: dict[str, str], where: str) -> str:
    """Write a query with a feature of its own name for each expression."""
    features = ", ".join(f'{expression} AS "{name}"' for name, expression in expressions.items())
    return select("0", where).replace("0 AS x", features)


CLEAN = {
    "value": "t.size",
    "joined": "w.temp + t.grp",
    "text": "t.kind || date_part('hour', t.moment)",
    "missing": "t.size IS NULL",
    "average of a group": "(SELECT avg(o.size) FROM things o WHERE o.grp = t.grp)",
    "sum of all": "(SELECT sum(size) FROM things)",
    "first": "(SELECT first(size) FROM things)",
    "age between two": "age(t.moment, TIMESTAMP '2020-01-01')",
}


@pytest.mark.parametrize(
    "where", ["true", UNLABELLED, "t.delay > 0", "coalesce(t.delay, 0) < 40", "t.flag"]
)
def test_rows_may_be_chosen_by_the_future_where_columns_do_not_depend_on_it(where: str) -> None:
    assert leaks(select_all(CLEAN, where)) == []


@pytest.mark.parametrize(
    "window",
    [
        "row_number() OVER ()",
        "avg(t.size) OVER (PARTITION BY t.kind)",
        "lag(t.size) OVER (ORDER BY t.id)",
    ],
)
def test_a_window_is_clean_over_all_rows_and_a_leak_over_those_that_a_filter_leaves(
    window: str,
) -> None:
    assert leaks(select(window)) == []
    assert leaks(select(window, UNLABELLED)) == ["x"]


NUMBERS = st.sampled_from(["t.size", "t.grp", "t.delay", "t.dep", "t.arr", "t.gate"])
TEXTS = st.sampled_from(["t.kind", "t.reason", "CAST(t.landed AS VARCHAR)"])
TRUTHS = st.sampled_from(["t.flag", "t.kind = 'a'", "t.reason IS NULL", "t.landed > t.moment"])


def deeper(numbers: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(numbers, numbers)
    truths = TRUTHS | pairs.map(lambda two: f"({two[0]} > {two[1]})")
    return st.one_of(
        pairs.map(lambda two: f"({two[0]} - {two[1]})"),
        pairs.map(lambda two: f"coalesce({two[0]}, {two[1]})"),
        numbers.map(lambda one: f"sign({one})"),
        numbers.map(lambda one: f"CAST({one} IS NULL AS INT)"),
        TEXTS.map(lambda text: f"length({text})"),
        st.tuples(truths, numbers, numbers).map(
            lambda three: f"CASE WHEN {three[0]} THEN {three[1]} ELSE {three[2]} END"
        ),
    )


EXPRESSIONS = st.recursive(NUMBERS, deeper, max_leaves=4)
WHOLE = st.sampled_from(
    [
        "{}",
        "{} > 0",
        "avg({}) OVER (PARTITION BY t.kind)",
        "rank() OVER (ORDER BY {})",
        "lag({}, 3) OVER (ORDER BY t.id)",
        "count({}) OVER (ORDER BY t.id)",
    ]
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(whole=WHOLE, expression=EXPRESSIONS)
def test_what_differs_in_another_future_is_a_leak_and_nothing_is_that_never_looks_there(
    whole: str, expression: str
) -> None:
    sql = select(whole.format(expression))
    here, *elsewhere = [column_of(sql, seed) for seed in range(3)]
    found = leaks(sql)
    if min(differences(here, other) for other in elsewhere) >= 5:  # of 300 rows
        assert found == ["x"]
    if not any(f"t.{name}" in expression for name in LATER):
        assert found == []


def differences(one: list[object], other: list[object]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def column_of(sql: str, later_seed: int) -> list[object]:
    with loaded(later_seed=later_seed) as database:
        return database.execute(f"SELECT id, x FROM ({sql}) ORDER BY id").fetchall()


@pytest.mark.parametrize("rows", [1, 2, 3, 10])
def test_a_few_rows_are_enough_to_see_a_copy(rows: int) -> None:
    assert leaks(select("[t.delay]"), rows=rows) == ["x"]


def test_a_key_that_follows_the_future_is_a_leak() -> None:
    sql = "SELECT t.id, t.flag, t.moment, t.size, t.delay > 10 AS late FROM things t"
    assert leaks(sql, ["id", "flag"]) == ["flag", "id"]


def test_a_column_that_is_gone_in_another_future_is_a_leak() -> None:
    latest = "(SELECT 'until ' || max(landed) FROM things)"
    inner = f"SELECT id, moment, {latest} AS latest, delay > 10 AS late FROM things"
    [found] = leaks(f"PIVOT ({inner}) ON latest USING count(*) GROUP BY id, moment, late")
    assert found.startswith("until 2024-")


def test_a_query_that_cannot_stand_every_future_is_shown_a_milder_one() -> None:
    """`arr` and `dep` go together: moved one by one, a flight ends before it began."""
    where = "CAST(t.arr - t.dep AS UINTEGER) > 0"
    with loaded() as database:
        database.execute("UPDATE things SET arr = (SELECT min(arr) FROM things)")
        with pytest.raises(duckdb.ConversionException, match="out of range"):
            database.sql(select("t.size", where)).fetchall()
    assert leaks(select("t.reason IS NULL", where)) == ["x"]
    assert leaks(select("t.size", where)) == []


def test_what_exists_only_later_is_found_in_milder_futures_too() -> None:
    exists = "EXISTS (SELECT 1 FROM cancels c WHERE c.id = t.id)"
    assert leaks(select(exists, "CAST(t.arr - t.dep AS UINTEGER) > 0")) == ["x"]


def test_rows_remain_whatever_a_query_demands_of_them() -> None:
    """Half of the values stay: three demands at once leave an eighth of such rows."""
    where = "t.reason = 'crew' AND t.gate = 1 AND t.flag"
    assert leaks(select("t.size", where), rows=12_000) == []
    assert leaks(select("t.dep", where), rows=12_000) == ["x"]


def test_a_query_that_fails_in_any_other_future_is_refused_with_the_way_out() -> None:
    where = "CAST(date_diff('minute', t.moment, t.landed) AS USMALLINT) > 0"
    with pytest.raises(SlipwayError, match=r"cannot be checked for leaks.*things\.landed.*TRY"):
        leaks(select("t.size", where))
    assert leaks(select("t.size", f"TRY({where})")) == []


def test_a_query_that_keeps_hardly_any_row_in_another_future_is_refused() -> None:
    sql = (
        "SELECT hash(t.id, (SELECT sum(dep) FROM things)) AS id, t.moment, t.size,"
        " t.delay > 10 AS late FROM things t WHERE t.delay IS NOT NULL AND t.flag"
    )
    with pytest.raises(SlipwayError, match="hardly a row keeps its key"):
        leaks(sql, rows=1500)
