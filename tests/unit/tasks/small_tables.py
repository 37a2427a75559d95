"""Small tables in a stage's folder, and the stages over them that need no child process."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from slipway.config import GoldenConfig, PrepareConfig
from slipway.problem import Target
from slipway.settings.split import SplitConfig
from tasks import golden, prepare
from tasks.tables import TableFacts, write_facts, write_table

ROWS = 3000
START = datetime(2024, 1, 1)

LATE = Target("late", "binary", (0, 1))

BY_TIME = {
    "by": "time",
    "train": {"start": "2024-01-01", "end": "2024-02-10"},
    "validation": {"start": "2024-02-10", "end": "2024-02-20"},
    "test": {"start": "2024-02-20", "end": "2024-03-01"},
    "choose": 0.4,
}
BY_ROWS = {"by": "rows", "validation": 0.3, "test": 0.25, "choose": 0.5}
BY_GROUP = {**BY_ROWS, "by": "group", "column": "customer"}
GIVEN = {
    "by": "given",
    "column": "part",
    "train": "learn",
    "validation": "tune",
    "test": "judge",
    "choose": 0.5,
}


def table(rows: int = ROWS, first_id: int = 0) -> pa.Table:
    """Rows over sixty days, one label in three."""
    at = [START + timedelta(minutes=i * 60 * 24 * 60 // rows) for i in range(rows)]
    ids = np.arange(first_id, first_id + rows)
    return pa.table(
        {
            "at": pa.array(at, pa.timestamp("us")),
            "id": ids,
            "kind": pa.array(["ab"[i % 2] for i in ids]),
            "size": pa.array(np.arange(rows) % 7, pa.float32()),
            "late": pa.array((ids % 3 == 0).astype("int8")),
        }
    )


def more_columns(rows: int = ROWS, first_id: int = 0) -> pa.Table:
    """Add a customer, missing for some, and a part that somebody gave."""
    ids = range(first_id, first_id + rows)
    customers = [None if i % 41 == 0 else f"c{i * 7 % 97}" for i in ids]
    parts = [
        ("learn", "learn", "learn", "tune", "tune", "judge", "other", None)[i % 8] for i in ids
    ]
    more = table(rows, first_id).append_column("customer", pa.array(customers, pa.string()))
    return more.append_column("part", pa.array(parts, pa.string()))


def with_column(rows: pa.Table, name: str, values: Any) -> pa.Table:
    """Add a column, or put it in the place of the one of this name."""
    if name in rows.column_names:
        return rows.set_column(rows.column_names.index(name), name, pa.array(values))
    return rows.append_column(name, pa.array(values))


def facts_of(rows: pa.Table, **changes: Any) -> TableFacts:
    """Describe a table."""
    usual: dict[str, Any] = {
        "key": ["id"],
        "time": "at",
        "target": LATE,
        "weight": None,
        "rows": rows.num_rows,
        "schema": {field.name: str(field.type) for field in rows.schema},
        "time_range": None,
        "sources": {},
        "known_later": ["delay"],
        "leaks": [],
    }
    return TableFacts(**{**usual, **changes})


def write_folder(path: Path, rows: pa.Table, **changes: Any) -> Path:
    """Write a table with its facts."""
    path.mkdir(parents=True, exist_ok=True)
    write_table(path / "table.parquet", rows)
    write_facts(path, facts_of(rows, **changes))
    return path


def split_of(values: dict[str, Any]) -> SplitConfig:
    """Read a split."""
    found: SplitConfig = TypeAdapter(SplitConfig).validate_python(values)
    return found


def run_golden(
    root: Path,
    data: pa.Table,
    split: dict[str, Any] = BY_TIME,
    *,
    share: float = 0.5,
    rows: int = 200,
    **facts: Any,
) -> Path:
    """Run the golden stage."""
    out = root / "golden"
    out.mkdir(parents=True)
    config = GoldenConfig(share_of_units=share, rows=rows)
    golden.run(
        config, split_of(split), valid=write_folder(root / "valid", data, **facts), golden=out
    )
    return out


def run_prepare(
    root: Path,
    data: pa.Table,
    split: dict[str, Any] = BY_TIME,
    *,
    settings: dict[str, Any] | None = None,
    **facts: Any,
) -> Path:
    """Run the prepare stage."""
    out = root / "prepared"
    out.mkdir(parents=True)
    usual = {
        "categories": {"kind": "What"},
        "numbers": {"size": "How large"},
        "min_category_rows": 5,
        "shard_rows": 500,
    }
    config = PrepareConfig.model_validate({**usual, **(settings or {})})
    prepare.run(
        config, split_of(split), valid=write_folder(root / "valid", data, **facts), prepared=out
    )
    return out
