"""Small tables of which some columns are known only later, as the query finds them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa

from slipway.config import IngestConfig

START = datetime(2024, 1, 1)

KNOWN = {"id": "int64", "moment": "datetime", "kind": "string", "size": "float64", "grp": "int64"}
LATER = {
    "dep": "float64",
    "arr": "float64",
    "delay": "float64",
    "reason": "string",
    "flag": "bool",
    "gate": "int64",
    "landed": "datetime",
}
SAME = {"same": "string", "empty": "float64"}
"""Known later too, but this data holds one value of them, and none."""

COLUMNS = {
    "things": KNOWN | LATER | SAME,
    "cancels": {"id": "int64", "why": "string"},
    "weather": {"grp": "int64", "temp": "float64"},
}
KNOWN_LATER = {"things": [*LATER, *SAME], "cancels": ["id", "why"], "weather": []}
"""Of `cancels` everything is known later: whether there is a row for a thing as well."""

TYPES = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "datetime": pa.timestamp("us"),
}


def config(query: str, key: list[str] | None = None) -> IngestConfig:
    """Make the config of a query over these tables."""
    sources = {
        name: {"url": f"file:///{name}.csv", "columns": columns, "known_later": KNOWN_LATER[name]}
        for name, columns in COLUMNS.items()
    }
    target = {"problem": "binary", "column": "late", "positive": 1, "negative": 0}
    return IngestConfig.model_validate(
        {
            "sources": sources,
            "query": query,
            "key": key or ["id"],
            "time": "moment",
            "target": target,
            "weight": None,
        }
    )


def select(expression: str, where: str = "true") -> str:
    """Write a query whose feature `x` is this expression over `t`, the things."""
    return (
        f"SELECT t.id, t.moment, {expression} AS x, CAST(t.delay > 10 AS TINYINT) AS late"
        f" FROM things t JOIN weather w ON w.grp = t.grp WHERE {where}"
    )


@contextmanager
def loaded(rows: int = 300, *, later_seed: int = 0) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database with the tables; another seed changes nothing but what is known later."""
    with duckdb.connect() as database:
        database.execute("SET threads = 2")  # wherever the tests run
        for name, content in _tables(rows, later_seed).items():
            database.register("incoming", content)
            database.execute(f'CREATE TEMP TABLE "{name}" AS FROM incoming')
            database.unregister("incoming")
        yield database


@cache
def _tables(rows: int, later_seed: int) -> dict[str, pa.Table]:
    known, later = random.Random(7), random.Random(later_seed)
    content = {
        "things": [_known(known, i) | _later(later, i) for i in range(rows)],
        "cancels": [
            {"id": i, "why": later.choice("ab")} for i in later.sample(range(rows), rows // 5)
        ],
        "weather": [{"grp": i, "temp": 10.5 + i} for i in range(7)],
    }
    return {
        name: pa.Table.from_pylist(
            content[name], pa.schema([(column, TYPES[kind]) for column, kind in columns.items()])
        )
        for name, columns in COLUMNS.items()
    }


def _known(dice: random.Random, i: int) -> dict[str, Any]:
    return {
        "id": i,
        "moment": START + timedelta(minutes=37 * i),
        "kind": dice.choice("abcd"),
        "size": None if dice.random() < 0.1 else dice.gauss(0, 1),
        "grp": i % 7,
    }


def _later(dice: random.Random, i: int) -> dict[str, Any]:
    left = dice.gauss(600, 100)
    values = {
        "dep": left,
        "arr": left + dice.gauss(100, 20),
        "delay": round(dice.gauss(5, 20), 1),
        "reason": dice.choice(["weather", "crew", "gear"]),
        "flag": dice.random() < 0.2,
        "gate": dice.randint(0, 3),
        "landed": START + timedelta(minutes=37 * i + dice.randint(1, 300)),
        "same": "x",
        "empty": None,
    }
    gone = set() if dice.random() > 0.05 else {"dep", "arr", "delay"}  # cancelled
    gone |= {name for name in LATER if name != "delay" and dice.random() < 0.1}
    return {name: None if name in gone else value for name, value in values.items()}
