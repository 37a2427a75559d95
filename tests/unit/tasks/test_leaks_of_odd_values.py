"""What depends on the future is found in values that are odd, rare or looked at in odd ways."""

import pytest

from tasks import query
from tasks.leaks import find_leaks
from tests.odd_tables import config, opened, select


def leaks(sql: str, *key: str) -> list[str]:
    with opened() as database:
        section = config(database, sql, key or ("id",))
        query.keep(database, section)
        query.require_repeatable(database, section)
        return find_leaks(database, section)


PLANTED = {
    "a value of one row only": "o.status = 'fraud'",
    "case on a value of one row only": "CASE o.status WHEN 'fraud' THEN 9 ELSE 1 END",
    "one row of many with a condition": "o.status = 'fraud' AND o.amount > 0",
    "is there any of one row":
        "EXISTS (SELECT 1 FROM orders z WHERE z.status = 'fraud' AND z.batch = o.batch)",
    "the largest integer": "o.code = 9223372036854775807",
    "parity": "o.code % 2",
    "bit": "(o.code >> 3) & 1",
    "sign": "sign(o.score)",
    "infinite": "isinf(o.score)",
    "not a number": "isnan(o.score)",
    "decimals": "o.refund * 100 % 100 = 50",
    "decimal digit": "CAST(o.refund AS VARCHAR)[-1:]",
    "weekday": "dayname(o.due)",
    "year of extremes": "year(o.due) > 2100",
    "month end": "o.due = last_day(o.due)",
    "length of a list": "len(list_distinct(o.steps))",
    "in a list": "list_contains(o.steps, 3)",
    "list as a whole": "o.steps",
    "list sorted": "list_sort(o.steps)[1]",
    "field of a struct": "o.visit.n",
    "json of a struct": "CAST(o.visit AS VARCHAR) LIKE '%b%'",
    "text as a number": "TRY_CAST(o.days AS INT) > 14",
    "text as a date": "month(strptime(o.shipped, '%d/%m/%Y')) - month(o.moment)",
    "is empty": "o.note = ''",
    "is blank": "trim(o.note) = ''",
    "pattern": "o.note LIKE 'M_nchen%'",
    "regular expression": "regexp_matches(o.note, '[0-9]')",
    "accents": "strip_accents(o.note)",
    "levenshtein": "levenshtein(o.note, o.status)",
    "the only value": "o.currency",
    "length of the only value": "length(o.currency)",
    "no value": "coalesce(o.never, -1)",
    "later than another": "CAST(o.closed AS DATE) > o.due",
    "nulls are the same": "(o.closed IS NULL) = o.paid",
    "number of nulls": "CAST(o.closed IS NULL AS INT) + CAST(o.never IS NULL AS INT)",
    "order of the note": "dense_rank() OVER (ORDER BY o.note, o.status)",
    "share of a batch": "avg(CAST(o.paid AS INT)) OVER (PARTITION BY o.batch)",
    "all of a batch": "bool_and(o.paid) OVER (PARTITION BY o.id // 3)",
    "modes of a batch": "(SELECT mode(z.status) FROM orders z WHERE z.batch = o.batch)",
    "texts of a batch":
        "(SELECT string_agg(z.status, ',' ORDER BY z.id) FROM orders z WHERE z.batch ="
        " o.batch)",
    "lists of a batch": "(SELECT list(z.code ORDER BY z.id) FROM orders z WHERE z.batch = o.batch)",
    "by the order of a later one": "lag(o.amount) OVER (ORDER BY o.closed, o.id)",
    "next known by a later order": "lead(o.id) OVER (PARTITION BY o.customer ORDER BY o.due, o.id)",
    "known first by a later one":
        "first_value(o.amount) OVER (PARTITION BY o.batch ORDER BY o.score, o.id)",
    "known where a later one is largest":
        "(SELECT arg_max(z.amount, z.refund) FROM orders z WHERE z.batch = o.batch)",
    "known average of those that a later one chose":
        "(SELECT avg(z.amount) FROM orders z WHERE z.batch = o.batch AND z.paid)",
    "count of those that a later one chose":
        "(SELECT count(*) FROM orders z WHERE z.customer = o.customer AND z.closed < o.moment)",
    "comes back": "o.id IN (SELECT id FROM returns)",
    "came back before":
        "(SELECT count(*) FROM returns r WHERE r.id BETWEEN o.id - 30 AND o.id - 1)",
    "never comes back": "NOT EXISTS (SELECT 1 FROM returns r WHERE r.id = o.id)",
    "why it comes back": "(SELECT max(why) FROM returns r WHERE r.id // 20 = o.batch)",
    "all that come back": "(SELECT count(*) FROM returns) + o.amount",
    "bucket of a hash": "md5(CAST(o.refund AS VARCHAR))[1]",
    "bucket of everything": "hash(o.id, o.code, o.status) % 7",
    "known value swapped by a later one": "if(o.paid, o.amount, p.price)",
    "a hair": "o.amount + CAST(o.paid AS INT) * 1e-9",
    "correlation": "(SELECT corr(z.amount, CAST(z.refund AS DOUBLE)) FROM orders z)",
    "median of all": "(SELECT median(refund) FROM orders)",
    "distinct values of all": "(SELECT count(DISTINCT code) FROM orders)",
    "quantile rank": "cume_dist() OVER (ORDER BY o.refund)",
    "age in days": "date_diff('day', o.moment, o.closed)",
    "seconds of the minute": "minute(o.closed) % 3",
    "difference of ranks": "rank() OVER (ORDER BY o.refund) - rank() OVER (ORDER BY o.amount)",
    "which of two is larger": "greatest(o.code, o.id) = o.id",
    "the same as the row before": "o.status = lag(o.status) OVER (ORDER BY o.id)",
    "rows until the next": "sum(CAST(o.paid AS INT)) OVER (ORDER BY o.id DESC)",
    "divided by itself": "o.refund / nullif(o.refund, 0)",
    "is missing in one row": "o.id = 77 AND o.closed IS NULL",
    "moment of a match":
        "(SELECT n.amount FROM (SELECT o.closed AS c) q ASOF JOIN orders n ON q.c >= n.moment)",
    "filtered window": "count(*) FILTER (WHERE o.paid) OVER (PARTITION BY o.customer)",
    "values in two batches":
        "(SELECT count(*) FROM (SELECT code FROM orders WHERE batch = o.batch"
        " INTERSECT SELECT code FROM orders WHERE batch = o.batch + 1))",
    "items of a list": "len(list_filter(o.steps, lambda step: step > 3))",
    "a value that is nowhere": "o.currency = 'EUR~'",
    "entropy": "(SELECT entropy(status) FROM orders)",
    "not known to come back":
        "(SELECT count(*) FROM orders z ANTI JOIN returns r ON z.id = r.id"
        " WHERE z.batch = o.batch)",
    "row numbers": "(SELECT min(r.rowid) FROM returns r WHERE r.id > o.id)",
    "a struct of later ones": "{'a': o.paid, 'b': 1}",
}  # fmt: skip


@pytest.mark.parametrize(
    ("nested", "where"), [(False, "true"), (True, "o.status IN ('late', 'ok', 'fraud')")]
)
def test_every_planted_leak_is_found(nested: bool, where: str) -> None:
    """In two queries, as DuckDB's plan of many nested ones grows out of all proportion."""
    planted = {name: e for name, e in PLANTED.items() if ("SELECT" in e) == nested}
    assert set(planted) - set(leaks(select(planted, where))) == set()


CLEAN = {
    "value": "o.amount",
    "text": "o.customer || ' ' || dayname(o.moment)",
    "joined": "p.price * o.amount",
    "bucket": "hash(o.id) % 7",
    "parity": "o.id % 2",
    "average of a batch": "(SELECT avg(z.amount) FROM orders z WHERE z.batch = o.batch)",
    "average of a customer's earlier ones":
        "(SELECT avg(z.amount) FROM orders z WHERE z.customer = o.customer AND z.id < o.id)",
    "number of a customer's": "(SELECT count(*) FROM orders z WHERE z.customer = o.customer)",
    "largest of all": "(SELECT max(amount) FROM orders)",
    "texts of a batch":
        "(SELECT string_agg(z.customer, ',' ORDER BY z.id) FROM orders z WHERE z.batch = o.batch)",
    "list": "[o.id, o.batch]",
    "struct": "{'customer': o.customer, 'n': o.batch}",
    "missing": "CAST(NULL AS DATE)",
    "endless": "if(o.amount > 50, 'infinity'::DOUBLE, 'nan'::DOUBLE)",
    "day": "CAST(o.moment AS DATE)",
    "decimal": "CAST(o.amount AS DECIMAL(9, 2))",
    "nothing of a later one": "o.amount + 0 * len(CAST([] AS INT[]))",
}  # fmt: skip

CHOICES = [
    "o.status IN ('late', 'ok')",
    "o.status = 'lost' AND o.paid",
    "o.closed IS NOT NULL",
    "o.closed > o.moment + INTERVAL 1 DAY",
    "o.code BETWEEN 0 AND 20 AND NOT isnan(o.score)",
    "o.note <> ''",
    "o.steps[1] = 1",
    "o.id NOT IN (SELECT id FROM returns)",
    "o.visit.by = 'a' AND o.refund > 100",
    "strptime(o.shipped, '%d/%m/%Y') >= DATE '2024-01-02'",
    "o.currency = 'EUR' AND o.never IS NULL",
]


@pytest.mark.parametrize("where", CHOICES)
def test_rows_may_be_chosen_by_the_future(where: str) -> None:
    assert leaks(select(CLEAN, where)) == []


LABELS = [
    "CAST(o.days AS INT) > 14",
    "strptime(o.shipped, '%d/%m/%Y') < o.moment",
    "o.code = 9223372036854775807 OR -o.code < 0",
    "o.refund / o.refund",
    "year(o.due) > 2024",
    "CAST(o.score AS VARCHAR) = 'inf'",
    "avg(CAST(o.paid AS INT)) OVER (PARTITION BY o.customer) > 0.5",
    "log(o.refund + 1) > 3",
    "o.visit.by = 'b' AND list_sum(o.steps) > 3",
    "CASE WHEN o.closed < o.moment THEN 1 // 0 ELSE 1 END",
    "EXISTS (SELECT 1 FROM returns r WHERE r.id = o.id)",
    "(SELECT r.why FROM returns r WHERE r.id = o.id) = 'r1'",
]


@pytest.mark.parametrize("label", LABELS)
def test_a_label_may_be_made_of_the_future_in_any_way(label: str) -> None:
    assert leaks(select(CLEAN, label=label)) == []


def test_a_table_of_outcomes_may_be_joined_for_its_label() -> None:
    sql = (
        "SELECT o.id, o.moment, o.amount, r.why = 'r1' AS late FROM orders o"
        " JOIN returns r ON r.id = o.id"
    )
    assert leaks(sql) == []
    assert leaks(sql.replace("o.amount", "r.why")) == ["why"]


def test_the_newest_of_several_rows_may_be_kept_where_it_is_known_which() -> None:
    newest = (
        "QUALIFY row_number() OVER (PARTITION BY o.customer, o.batch // 8 ORDER BY {} DESC) = 1"
    )
    assert leaks(select(CLEAN, f"true {newest.format('o.id')}")) == []
    of_each = select({"value": "o.amount"}, f"true {newest.format('o.closed, o.id')}")
    assert leaks(
        of_each.replace("o.id,", "o.customer, o.batch // 8 AS pair,", 1), "customer", "pair"
    ) == [
        "moment",
        "value",
    ]


def test_a_key_may_be_a_hash_of_what_is_known_and_of_nothing_else() -> None:
    sql = "SELECT {} AS id, moment, amount, status = 'late' AS late FROM orders"
    assert leaks(sql.format("md5(customer || id)")) == []
    assert leaks(sql.format("md5(status || id)")) == ["id"]
    assert leaks(sql.format("id * 2 + CAST(paid AS INT)")) == ["id"]


def test_a_query_may_name_the_numbers_of_rows() -> None:
    assert leaks("SELECT rowid AS id, moment, amount, paid AS late FROM orders") == []


SHAPES = [
    (
        "SELECT id, moment, count(*) OVER () AS n, amount, paid AS late FROM orders WHERE paid",
        ["n"],
    ),
    (
        "SELECT batch AS id, max(moment) AS moment, count(*) AS n, bool_or(paid) AS late"
        " FROM orders WHERE status <> 'lost' GROUP BY batch",
        ["moment", "n"],
    ),
    (
        "SELECT batch AS id, max(moment) AS moment, count(*) AS n, bool_or(paid) AS late"
        " FROM orders GROUP BY batch",
        [],
    ),
    (
        "SELECT DISTINCT ON (customer) customer AS id, moment, amount, paid AS late FROM orders"
        " ORDER BY customer, refund DESC, id",
        ["amount", "moment"],
    ),
    ("SELECT id, coalesce(closed, moment) AS moment, paid AS late FROM orders", ["moment"]),
    (
        "SELECT id, moment, amount, paid AS late FROM orders WHERE paid UNION ALL"
        " SELECT id, moment, -amount, paid FROM orders WHERE NOT coalesce(paid, false)",
        ["amount"],
    ),
    (
        "SELECT row_number() OVER (ORDER BY closed, id) AS id, moment, paid AS late FROM orders",
        ["moment"],
    ),
]


@pytest.mark.parametrize(("sql", "found"), SHAPES)
def test_a_leak_may_be_in_how_rows_are_made(sql: str, found: list[str]) -> None:
    assert leaks(sql) == found
