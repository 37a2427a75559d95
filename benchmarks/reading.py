"""What reading a CSV file into typed tables costs, against DuckDB's own reader of it.

    python -m benchmarks.reading [rows] [rounds]

20 columns: a key, a time, 6 integers, 8 floats, 4 texts. Both ways take turns, so that a noisy
minute hits both; CPU time is shown beside the wall's, since it hardly depends on neighbours. The
ways: DuckDB infers types (`read_csv`), DuckDB is told them, and ours, which also checks that every
value is what its column is declared to be (DuckDB reads 1.5 as the integer 2).
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import duckdb

from slipway.config import Source
from tasks.reading.packing import PlainFile
from tasks.reading.table import load
from tasks.reading.types import TYPES

COLUMNS = {
    "id": "int64",
    "at": "datetime",
    **{f"i{n}": "int64" for n in range(6)},
    **{f"f{n}": "float64" for n in range(8)},
    **{f"s{n}": "string" for n in range(4)},
}


def write(path: Path, rows: int) -> None:
    """Write the table; the same one every time."""
    made = {
        "int64": "CAST(hash(range * {n}) % 100000 AS BIGINT)",
        "float64": "round((hash(range * {n}) % 1000000) / 997.0, 4)",
        "string": "'category ' || (hash(range * {n}) % 50)",
    }
    columns = ["range AS id", "TIMESTAMP '2020-01-01' + to_seconds(range) AS at"]
    columns += [
        f"{made[kind].format(n=n)} AS {name}"
        for n, (name, kind) in enumerate(COLUMNS.items())
        if n > 1
    ]
    with duckdb.connect() as database:
        query = f"SELECT {', '.join(columns)} FROM range({rows})"
        database.execute(f"COPY ({query}) TO '{path}' (HEADER)").fetchall()


def inferred(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Let DuckDB find out all of it."""
    database.execute(f"CREATE TEMP TABLE t AS SELECT * FROM read_csv('{path}')").fetchall()


def told(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Tell DuckDB the types."""
    types = ", ".join(f"'{name}': '{TYPES[kind]}'" for name, kind in COLUMNS.items())
    database.execute(
        f"CREATE TEMP TABLE t AS SELECT * FROM read_csv('{path}', auto_detect=false, header=true,"
        f" columns={{{types}}})"
    ).fetchall()


def ours(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Read it as a source."""
    source = Source(url=str(path), columns=COLUMNS, known_later=[])
    load(database, "t", source, [PlainFile("", path.name, path)])


WAYS: dict[str, Callable[[duckdb.DuckDBPyConnection, Path], None]] = {
    "DuckDB, types inferred": inferred,
    "DuckDB, types told": told,
    "ours": ours,
}


def main(rows: int, rounds: int) -> None:
    """Print seconds and ratios."""
    took: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write(path, rows)
        print(f"{rows:,} rows x {len(COLUMNS)} columns, {path.stat().st_size / 1e6:.0f} MB")
        for _ in range(rounds):
            for way, read in WAYS.items():
                with duckdb.connect() as database:
                    wall, cpu = time.perf_counter(), time.process_time()
                    read(database, path)
                    took[way].append((time.perf_counter() - wall, time.process_time() - cpu))
    first = [median(part) for part in zip(*took["DuckDB, types inferred"], strict=True)]
    for way, pairs in took.items():
        wall, cpu = (median(part) for part in zip(*pairs, strict=True))
        print(
            f"{way:24} {wall:6.2f} s wall ({wall / first[0]:.2f}), {cpu:6.2f} s CPU"
            f" ({cpu / first[1]:.2f})"
        )


if __name__ == "__main__":
    main(*(int(number) for number in [*sys.argv[1:], "1000000", "5"][:2]))
