"""What the query gives can be had again, and every row of it has a key of its own."""

import pytest

from slipway.errors import SlipwayError
from tasks import query
from tests.later_tables import config, loaded, select


def refusal(sql: str, key: list[str] | None = None) -> str:
    with loaded() as database, pytest.raises(SlipwayError) as caught:
        query.keep(database, config(sql, key))
    return str(caught.value)


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("random()", "random()"),
        ("t.size + RANDOM ( )", "random()"),
        ('"random"()', "random()"),
        ("now() /* of all times */", "now()"),
        ("date_diff('day', t.moment, current_date)", "current_date"),
        ("CURRENT_TIMESTAMP", "current_timestamp"),
        ("age(date_trunc('day', t.moment))", "age()"),
        ("'ü', ago(INTERVAL 1 DAY), uuid()", "ago(), uuid()"),
    ],
)
def test_the_clock_and_chance_are_refused_by_name(expression: str, named: str) -> None:
    assert f"ingest.query uses {named}: it would give other values" in refusal(select(expression))


@pytest.mark.parametrize(
    "harmless",
    ["'now() random()'", "$$now()$$", "t.id -- now()\n", "t.id /* random() */", "t.id AS random"],
)
def test_a_word_that_calls_nothing_is_no_call(harmless: str) -> None:
    assert query.chance_in(f"SELECT {harmless} FROM things t", set()) == []


def test_a_column_may_be_named_as_a_clock() -> None:
    sql = "SELECT localtime, t.current_date FROM things t"
    assert query.chance_in(sql, {"localtime"}) == []
    assert query.chance_in(sql, set()) == ["localtime"]


@pytest.mark.parametrize(
    ("sample", "found"),
    [
        ("USING SAMPLE 10%", ["a sample without a seed"]),
        ("TABLESAMPLE reservoir(10)", ["a sample without a seed"]),
        ("USING SAMPLE 10% (bernoulli, 7)", []),
        ("TABLESAMPLE reservoir(10) REPEATABLE (7)", []),
    ],
)
def test_a_sample_needs_a_seed(sample: str, found: list[str]) -> None:
    assert query.chance_in(f"SELECT * FROM things {sample}", set()) == found


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ("UPDATE things SET size = 3 WHERE id = 17", "values in x"),
        ("UPDATE things SET delay = 20 WHERE delay < 5", "values in late"),
        ("DELETE FROM things WHERE id = 17", "rows"),
        ("UPDATE things SET id = 1700 WHERE id = 17", "rows"),
    ],
)
def test_what_comes_out_otherwise_the_second_time_is_refused(change: str, other: str) -> None:
    section = config(select("t.size"))
    with loaded() as database:
        query.keep(database, section)
        query.require_repeatable(database, section)
        database.execute(change)
        with pytest.raises(SlipwayError, match=f"gives other {other} when it runs twice"):
            query.require_repeatable(database, section)


THREADS = "current_setting('threads')"


@pytest.mark.parametrize("sql", [select(THREADS), select("1", f"t.id < {THREADS}")])
def test_what_is_kept_is_the_result_of_one_thread(sql: str) -> None:
    """Two add floats in another order every time: `avg` differs in its last bits."""
    section = config(sql)
    with loaded() as database:
        query.keep(database, section)
        query.require_repeatable(database, section)
        kept = database.execute(f"SELECT DISTINCT x, max(id) OVER () FROM {query.KEPT}").fetchall()
        [(threads,)] = database.execute(f"SELECT {THREADS}").fetchall()
    assert kept in ([(1, 299)], [(1, 0)])
    assert threads == 2


def test_a_key_that_several_rows_share_is_refused_with_an_example() -> None:
    sql = "SELECT t.kind, t.grp, t.moment, t.delay > 10 AS late FROM things t"
    found = refusal(sql, ["kind", "grp"])
    assert found.startswith("ingest.key (kind, grp) is not unique: 28 of its values name several")
    assert "such as kind = a, grp = 0 (" in found


def test_two_rows_without_a_key_share_it() -> None:
    sql = "SELECT t.empty AS id, t.moment, t.delay > 10 AS late FROM things t"
    assert "such as id = None (300 rows)" in refusal(sql)


def test_two_columns_of_one_name_are_refused() -> None:
    assert "gives two columns named x; rename one" in refusal(select("t.size AS X, t.grp"))
