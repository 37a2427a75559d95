"""Validate a wide table, beside the same checks written by hand in DuckDB's SQL.

    python benchmarks/validate.py [--rows N] [--folder FOLDER] [--clean]

Makes a table of 20 columns of every kind, of which one row in 10,000 breaks a rule (none with
--clean), and holds it against 46 rules: 26 for rows, 20 for the table. Each side runs in a process
of its own; printed are its seconds, imports and all, and its peak of memory. The limit beside is
one SELECT over all rules, one GROUP BY for each unique key, and a COPY of the rows that are left.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "src")]

WANTED_RATIO = 2.0
"""The engine costs no more than this over SQL by hand."""

PRESENT = (
    "id", "moment", "day", "clock", "carrier", "code", "price", "small", "flag", "late"
)  # fmt: skip
NUMBERS = [f"n{i}" for i in range(8)]

TABLE = """
SELECT range AS id,
    TIMESTAMP '2024-01-01' + range * INTERVAL 1 SECOND AS moment,
    CAST(TIMESTAMP '2024-01-01' + range * INTERVAL 1 SECOND AS DATE) AS day,
    CAST(((range * 7919) % 86400) * INTERVAL 1 SECOND + TIME '00:00:00' AS TIME) AS clock,
    chr(CAST(65 + range % 20 AS INTEGER)) || chr(CAST(65 + range % 7 AS INTEGER)) AS carrier,
    'X' || lpad(CAST((range * 104729) % 1000000 AS VARCHAR), 6, '0') AS code,
    CASE WHEN range % 11 = 0 THEN NULL ELSE 'note ' || range % 5000 END AS note,
    CAST((range * 7907) % 10000 AS DECIMAL(10, 2)) / 100 AS price,
    CAST(range % 128 AS TINYINT) AS small,
    (range % 3 = 0) AS flag,
    CASE WHEN range % 13 = 0 THEN NULL ELSE range * 3 END AS maybe,
    {numbers},
    CAST(range % 4 = 0 AS TINYINT) AS late
FROM range({rows})
"""
BROKEN_EVERY = 10_000


def rules() -> list[dict[str, Any]]:
    """Write the suite."""
    found: list[dict[str, Any]] = []

    def rule(kind: str, level: str, **kwargs: Any) -> None:
        found.append({"type": f"expect_{kind}", "kwargs": kwargs, "meta": {"level": level}})

    for name in (
        "id",
        "moment",
        "day",
        "clock",
        "carrier",
        "code",
        "price",
        "small",
        "flag",
        "late",
    ):
        rule("column_values_to_not_be_null", "row", column=name)
    for name in NUMBERS:
        rule("column_values_to_be_between", "row", column=name, min_value=0, max_value=1)
        rule("column_mean_to_be_between", "suite", column=name, min_value=0.2, max_value=0.8)
    rule("column_values_to_be_between", "row", column="price", min_value=0, max_value=99.99)
    rule("column_values_to_be_between", "row", column="moment", min_value="2024-01-01")
    rule("column_values_to_be_between", "row", column="day", min_value="2024-01-01")
    rule("column_values_to_match_regex", "row", column="code", regex="^X[0-9]{6}$")
    rule("column_value_lengths_to_equal", "row", column="carrier", value=2)
    rule("column_values_to_be_in_set", "row", column="late", value_set=[0, 1])
    rule("column_pair_values_a_to_be_greater_than_b", "row", column_A="maybe", column_B="id",
         or_equal=True, ignore_row_if="either_value_is_missing")  # fmt: skip
    rule("column_values_to_not_be_in_set", "row", column="carrier", value_set=["ZZ"])
    rule("column_values_to_be_unique", "suite", column="id")
    rule("compound_columns_to_be_unique", "suite", column_list=["moment", "carrier", "code"])
    rule("column_max_to_be_between", "suite", column="small", max_value=127)
    rule("column_min_to_be_between", "suite", column="price", min_value=0)
    rule("column_proportion_of_non_null_values_to_be_between", "suite", column="note",
         min_value=0.8)  # fmt: skip
    rule("column_values_to_be_of_type", "suite", column="id", type_="int64")
    rule("column_values_to_be_of_type", "suite", column="price", type_="decimal(18, 2)")
    rule("column_stdev_to_be_between", "suite", column="n0", min_value=0.1, max_value=1)
    rule("column_median_to_be_between", "suite", column="n1", min_value=0.2, max_value=0.8)
    rule("column_distinct_values_to_be_in_set", "suite", column="flag", value_set=[True, False])
    rule("table_column_count_to_equal", "suite", value=20)
    rule("table_row_count_to_be_between", "suite", min_value=1)
    return found


def make_table(path: Path, rows: int, clean: bool) -> None:
    """Write the table as ingest does."""
    wrong = f"range % {BROKEN_EVERY} = 7" if not clean else "FALSE"
    numbers = ", ".join(
        f"CAST(CASE WHEN {wrong} THEN 1.5 ELSE ((range * {k}) % 10007) / 10007 END AS {kind})"
        f" AS {name}"
        for name, k, kind in zip(
            NUMBERS, (3, 7, 11, 13, 17, 19, 23, 29), ["FLOAT"] * 6 + ["DOUBLE"] * 2, strict=True
        )
    )
    query = TABLE.format(rows=rows, numbers=numbers).replace("/ 100 AS price", "/ 100 AS price")
    with duckdb.connect() as database:
        query = f"SELECT * REPLACE (CAST(price AS DECIMAL(18, 2)) AS price) FROM ({query})"
        database.execute(f"COPY ({query}) TO '{path}' (COMPRESSION zstd, ROW_GROUP_SIZE 65536)")


def by_hand(raw: Path, out: Path) -> None:
    """Check the same in SQL."""
    with duckdb.connect() as database:
        table = f"read_parquet('{raw}')"
        tests = [
            *(f"{name} IS NULL" for name in PRESENT),
            *(f"{name} < 0 OR {name} > 1" for name in NUMBERS),
            "price < 0 OR price > 99.99",
            "moment < TIMESTAMP '2024-01-01'",
            "day < DATE '2024-01-01'",
            "NOT regexp_matches(code, '^X[0-9]{6}$')",
            "length(carrier) <> 2",
            "late NOT IN (0, 1)",
            "maybe < id",
            "carrier IN ('ZZ')",
        ]
        broken = " OR ".join(f"coalesce({test}, FALSE)" for test in tests)
        counts = ", ".join(f"count(*) FILTER (WHERE {test})" for test in tests)
        print(database.execute(f"SELECT {counts} FROM {table}").fetchone())
        measures = [f"avg({name})" for name in NUMBERS]
        measures += ["max(small)", "min(price)", "count(note)", "stddev_samp(n0)", "median(n1)",
                     "count(DISTINCT flag)", "count(*)"]  # fmt: skip
        kept = f"(SELECT * FROM {table} WHERE NOT ({broken}))"
        print(database.execute(f"SELECT {', '.join(measures)} FROM {kept}").fetchone())
        for key in ("id", "moment, carrier, code"):
            twice = f"SELECT count(*) AS n FROM {kept} GROUP BY {key} HAVING count(*) > 1"
            print(database.execute(f"SELECT sum(n) FROM ({twice})").fetchone())
        for name, rows in (("table", kept), ("quarantine", f"(FROM {table} WHERE {broken})")):
            database.execute(
                f"COPY {rows} TO '{out / name}.parquet' (COMPRESSION zstd, ROW_GROUP_SIZE 65536)"
            )


def by_stage(root: Path) -> None:
    """Run the stage."""
    from slipway.config import ValidateConfig
    from tasks import validate

    limits = {"rows_min": 1, "rows_max": 10**9, "quarantine_share_max": 0.01, "timeout_s": 3600}
    validate.run(
        ValidateConfig.model_validate(limits),
        expectations=root / "suite.json",
        raw=root / "raw",
        valid=root / "valid",
        reports=root / "reports",
    )


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    seconds: float
    cpu_s: float
    peak_mb: float

    def __str__(self) -> str:
        """Write it as cells of the table."""
        return f"{self.seconds:.1f} | {self.cpu_s:.1f} | {self.peak_mb:.0f}"


def timed(*arguments: str) -> Cost:
    """Run this file in a process of its own."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {process.returncode}")
    return Cost(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def prepare(root: Path, rows: int, clean: bool) -> None:
    """Make the folders of a stage."""
    from slipway.problem import Target
    from tasks.tables import TableFacts, write_facts

    for name in ("raw", "valid", "hand"):
        (root / name).mkdir()
    make_table(root / "raw/table.parquet", rows, clean)
    facts = TableFacts(
        key=["id"], time="moment", target=Target("late", "binary", (0, 1)), weight=None, rows=rows,
        schema={}, time_range=["", ""], sources={}, known_later=[], leaks=[],
    )  # fmt: skip
    write_facts(root / "raw", facts)
    (root / "suite.json").write_text(json.dumps({"name": "wide", "expectations": rules()}))


def main() -> None:
    """Print the table of both sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the files go (a temporary folder)")
    parser.add_argument("--clean", action="store_true", help="no row breaks a rule")
    parser.add_argument("--side", choices=["hand", "stage"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side == "hand":
        return by_hand(asked.folder / "raw/table.parquet", asked.folder / "hand")
    if asked.side == "stage":
        return by_stage(asked.folder)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        prepare(Path(folder), asked.rows, asked.clean)
        hand = timed("--side", "hand", "--folder", folder)
        stage = timed("--side", "stage", "--folder", folder)
    print(f"{asked.rows:,} rows x 20 columns, {len(rules())} rules\n")
    print("| | seconds | CPU seconds | peak MB |\n|---|---|---|---|")
    print(f"| SQL by hand | {hand} |\n| validate | {stage} |")
    ratios = (stage.seconds / hand.seconds, stage.cpu_s / hand.cpu_s, stage.peak_mb / hand.peak_mb)
    shown = " | ".join(f"{ratio:.1f}" for ratio in ratios)
    print(f"| ratio (seconds wanted: at most {WANTED_RATIO:g}) | {shown} |")
    return None


if __name__ == "__main__":
    main()
