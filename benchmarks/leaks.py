"""Time the leak check beside DuckDB's own COPY of the same query.

    python benchmarks/leaks.py [--rows N] [--known-at] [--averages]

One source of 20 columns, of which 6 are known later, joined to a small one. `--known-at` says when
the later values became known, so the check looks at many moments; `--averages` adds a window that
adds up floats, which threads do in another order each time, so the check asks one thread again.
Prints the seconds of COPY, of the run that the query must repeat, and of the check, the ratio of
the last to the first, the memory at its highest, and what was found (nothing is planted).
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from slipway.config import IngestConfig  # noqa: E402  the repository must be importable first
from tasks import query  # noqa: E402
from tasks.leaks import find_leaks  # noqa: E402

KNOWN = 11
LATER = ("delay", "arr", "dep", "reason", "flag", "landed")


def main() -> None:
    """Make the sources, and time what is asked for."""
    options = _options()
    config = _config(known_at="landed" if options.known_at else None, averages=options.averages)
    with duckdb.connect() as database, tempfile.TemporaryDirectory() as folder:
        _load(database, options.rows)
        with _timed("COPY") as copy:
            target = f"{folder}/table.parquet"
            database.execute(
                f"COPY ({config.query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
            )
        with _timed("keep, on one thread"):
            query.keep(database, config)
        before = _peak_mb()
        with _timed("run again, compared"):
            query.require_repeatable(database, config)
        with _timed("leak check") as check:
            leaks = find_leaks(database, config)
    print(f"check / COPY {check[0] / copy[0]:.2f}, of CPU {check[1] / copy[1]:.2f}")
    print(f"peak RSS {_peak_mb()} MB, before the checks {before} MB")
    print(f"leaks {leaks}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the leak check beside DuckDB's COPY.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--known-at", action="store_true")
    parser.add_argument("--averages", action="store_true")
    return parser.parse_args()


def _config(*, known_at: str | None, averages: bool) -> IngestConfig:
    known = {f"k{i}": "float64" for i in range(KNOWN)}
    later = {"delay": "float64", "arr": "float64", "dep": "float64", "reason": "string"}
    columns = {"id": "int64", "moment": "datetime", "shop": "int64", **known, **later}
    columns |= {"flag": "bool", "landed": "datetime"}
    average = "avg(k0) OVER (PARTITION BY shop, CAST(moment AS DATE))" if averages else "k0 * 2"
    trips = f"(SELECT *, {average} AS average FROM trips)"  # before the filter on what comes later
    features = ", ".join(known)
    section = {
        "sources": {
            "trips": {
                "url": "file:///trips.csv",
                "columns": columns,
                "known_later": [*LATER],
                "known_at": known_at,
            },
            "shops": {
                "url": "file:///shops.csv",
                "columns": {"shop": "int64", "size": "float64"},
                "known_later": [],
            },
        },
        "query": f"SELECT id, moment, shop, {features}, average, size,"
        " dayname(moment) AS weekday, hour(moment) AS hour,"
        f" CAST(delay > 10 AS TINYINT) AS late FROM {trips} JOIN shops USING (shop)"
        " WHERE delay IS NOT NULL",
        "key": ["id"],
        "time": "moment",
        "target": {"problem": "binary", "column": "late", "positive": 1, "negative": 0},
        "weight": None,
    }
    return IngestConfig.model_validate(section)


def _load(database: duckdb.DuckDBPyConnection, rows: int) -> None:
    known = ", ".join(f"hash(i * 31 + {k}) % 100000 / 7.0 AS k{k}" for k in range(KNOWN))
    moment = "TIMESTAMP '2024-01-01' + to_seconds(CAST(i * 31 AS BIGINT))"
    database.execute(
        f"CREATE TEMP TABLE trips AS SELECT i AS id, {moment} AS moment, i % 500 AS shop, {known},"
        " CASE WHEN hash(i * 7) % 30 > 0 THEN hash(i * 11) % 4000 / 50.0 - 20 END AS delay,"
        " CASE WHEN hash(i * 7) % 30 > 0 THEN hash(i * 13) % 86400 / 60.0 END AS arr,"
        " hash(i * 17) % 86400 / 60.0 AS dep,"
        " ['weather', 'crew', 'gear', NULL][1 + CAST(hash(i * 19) % 4 AS INT)] AS reason,"
        " hash(i * 23) % 5 = 0 AS flag,"
        f" {moment} + to_minutes(CAST(30 + hash(i * 29) % 300 AS BIGINT)) AS landed"
        f" FROM range({rows}) AS r(i)"
    )
    database.execute(
        "CREATE TEMP TABLE shops AS SELECT i AS shop, i / 3.0 AS size FROM range(500) AS r(i)"
    )


@contextmanager
def _timed(name: str) -> Iterator[list[float]]:
    seconds: list[float] = []
    start, cpu_start = time.perf_counter(), time.process_time()
    yield seconds
    seconds += [time.perf_counter() - start, time.process_time() - cpu_start]
    print(f"{name} {seconds[0]:.2f} s, {seconds[1]:.2f} s of CPU")


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
