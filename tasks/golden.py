"""Set whole days aside by a fixed rule and take the golden set from them.

A day is golden when a hash of its date says so: new data adds days but moves none, and no row
can be in the golden set while another of the same day trains the model (same-day neighbours
leak). Of those days' rows the N with the smallest hash of their key form the set.
"""

import hashlib
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from slipway.errors import SlipwayError
from tasks.tables import (
    read_facts,
    read_table,
    with_rows,
    write_facts,
    write_json,
    write_table,
)
from tasks.target import require_target

if TYPE_CHECKING:
    from slipway.config import GoldenConfig


def run(config: "GoldenConfig", *, valid: Path, golden: Path) -> None:
    """Write the golden rows and the days they come from."""
    facts, table = read_facts(valid), read_table(valid)
    days = pc.cast(table[facts.time], pa.date32())
    window = [d for d in sorted(pc.unique(days).to_pylist()) if config.start <= d < config.end]
    chosen = [day for day in window if is_golden(day, config.share_of_days)]
    rows = table.filter(pc.is_in(days, pa.array(chosen, pa.date32())))
    if rows.num_rows < config.rows:
        raise SlipwayError(
            f"{len(chosen)} golden days between {config.start} and {config.end} hold"
            f" {rows.num_rows:,} rows, fewer than golden.rows {config.rows:,}; widen the window or"
            " raise golden.share_of_days"
        )
    rows = rows.take(smallest_hashes(rows.select(facts.key), config.rows))
    require_target(facts, rows, "the golden set")
    write_table(golden / "golden.parquet", rows)
    write_facts(golden, with_rows(facts, rows))
    write_json(
        golden / "golden.json",
        {
            "days": [day.isoformat() for day in chosen],
            "rows": rows.num_rows,
            "positives": pc.sum(rows[facts.label]).as_py(),
        },
    )


def is_golden(day: date, share: float) -> bool:
    """Decide by the day's hash alone, so that the decision never changes."""
    return _fraction(day.isoformat()) < share


def smallest_hashes(keys: pa.Table, count: int) -> pa.Array:
    """Return the indices of the `count` rows whose keys hash smallest, in that order."""
    texts = ("\x1f".join(map(str, row.values())) for row in keys.to_pylist())
    hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
    return pa.array(sorted(range(len(hashes)), key=hashes.__getitem__)[:count])


def _fraction(text: str) -> float:
    """Map a text to [0, 1) by the first 64 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
