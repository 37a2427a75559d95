"""Small tables of odd values, of which some columns are known only later."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb

from slipway.config import IngestConfig

ROWS = 500

ORDERS = f"""
    CREATE TEMP TABLE orders AS SELECT
        i AS id,
        TIMESTAMP '2024-01-01' + to_minutes(17 * i) AS moment,
        'u' || i % 40 AS customer,
        hash(i * 3) % 1000 / 10.0 AS amount,
        i // 20 AS batch,
        -- known later
        hash(i * 5) % 2 = 0 AS paid,
        CASE WHEN i = 321 THEN 'fraud' ELSE ['ok', 'late', 'lost'][1 + CAST(hash(i * 7) % 3 AS INT)]
            END AS status,
        CASE hash(i * 11) % 200 WHEN 0 THEN 9223372036854775807 WHEN 1 THEN -9223372036854775808
            ELSE CAST(hash(i * 13) % 50 AS BIGINT) END AS code,
        CASE hash(i * 17) % 200 WHEN 0 THEN 'infinity'::DOUBLE WHEN 1 THEN 'nan'::DOUBLE
            WHEN 2 THEN '-infinity'::DOUBLE ELSE hash(i * 19) % 997 / 7.0 END AS score,
        CAST(hash(i * 23) % 100000 / 100.0 AS DECIMAL(18, 2)) AS refund,
        CASE hash(i * 29) % 500 WHEN 0 THEN DATE '5877642-06-25' WHEN 1 THEN DATE '0001-01-01'
            ELSE DATE '2024-01-01' + CAST(i // 85 + hash(i * 31) % 9 AS INT) END AS due,
        CASE WHEN hash(i * 37) % 4 > 0 THEN TIMESTAMP '2024-01-01' + to_minutes(17 * i)
            + to_hours(CAST(hash(i * 41) % 90 AS INT)) END AS closed,
        [CAST(hash(i * 43) % 5 AS INT), CAST(hash(i * 47) % 5 AS INT)] AS steps,
        {{'by': 'ab'[1 + CAST(hash(i * 53) % 2 AS INT)], 'n': hash(i * 59) % 9}} AS visit,
        CAST(hash(i * 61) % 30 AS VARCHAR) AS days,
        strftime(TIMESTAMP '2024-01-01' + to_minutes(17 * i), '%d/%m/%Y') AS shipped,
        ['', ' ', 'München 3'][1 + CAST(hash(i * 67) % 3 AS INT)] AS note,
        'EUR' AS currency,
        CAST(NULL AS DOUBLE) AS never
    FROM range({ROWS}) AS r(i)
"""
RETURNS = f"""
    CREATE TEMP TABLE returns AS SELECT i AS id, 'r' || hash(i * 71) % 4 AS why
    FROM range({ROWS}) AS r(i) WHERE hash(i * 73) % 5 = 0
"""
PRICES = """
    CREATE TEMP TABLE prices AS SELECT 'u' || i AS customer, i * 1.5 AS price
    FROM range(40) AS r(i)
"""

KNOWN = ("id", "moment", "customer", "amount", "batch")

LATE = {"problem": "binary", "column": "late", "positive": 1, "negative": 0}


@contextmanager
def opened() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database with the tables."""
    with duckdb.connect() as database:
        database.execute("SET threads = 2")  # wherever the tests run
        for statement in (ORDERS, RETURNS, PRICES):
            database.execute(statement)
        yield database


def config(
    database: duckdb.DuckDBPyConnection, sql: str, key: Sequence[str] = ("id",)
) -> IngestConfig:
    """Make the config of a query over these tables; what is read as which type is no matter."""
    columns = {name: database.table(name).columns for name in ("orders", "returns", "prices")}
    later = {
        "orders": [c for c in columns["orders"] if c not in KNOWN],
        "returns": columns["returns"],
        "prices": [],
    }
    sources = {
        name: {
            "url": f"file:///{name}.csv",
            "columns": dict.fromkeys(columns[name], "string"),
            "known_later": later[name],
        }
        for name in columns
    }
    section = {"sources": sources, "query": sql, "key": list(key)}
    return IngestConfig.model_validate(
        {**section, "time": "moment", "target": LATE, "weight": None}
    )


def select(
    expressions: dict[str, str], where: str = "true", label: str = "o.status = 'late'"
) -> str:
    """Write a query with a feature of its own name for each expression over `o`, the orders."""
    features = "".join(f', {expression} AS "{name}"' for name, expression in expressions.items())
    return (
        f"SELECT o.id, o.moment, {label} AS late{features}"
        f" FROM orders o JOIN prices p USING (customer) WHERE {where}"
    )
