"""Set whole units of the test part aside by a fixed rule and take the golden set from them.

A unit (a day, a group, a row) is golden when a hash of its name says so: new data adds units but
moves none. It belongs to the test part as a whole, so none of its rows ever trains a model. Of
the golden units' rows the N with the smallest hash of their key form the set.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from slipway.errors import SlipwayError
from slipway.problem import PROBLEMS
from tasks import splitting
from tasks.tables import (
    ROWS,
    TableFacts,
    open_table,
    quoted,
    read_facts,
    with_rows,
    write_facts,
    write_json,
    write_table,
)
from tasks.target import encode, require_target

if TYPE_CHECKING:
    from slipway.config import GoldenConfig
    from slipway.settings.split import SplitConfig

UNIT, PLACE, NUMBER = '"slipway unit"', '"slipway place"', '"slipway number"'
"""Columns beside the table's own, whose names are identifiers."""

UNITS_LISTED = 100
"""Units that are named; of more only the number is told."""


def run(config: "GoldenConfig", split: "SplitConfig", *, valid: Path, golden: Path) -> None:
    """Write the golden rows and the units they come from."""
    facts = read_facts(valid)
    splitting.require_column(split, facts)
    columns = ", ".join(map(quoted, facts.schema))
    with open_table(valid) as database:
        database.execute(f"CREATE TEMP VIEW golden AS {_golden_sql(config, split, facts)}")
        units = [
            u for (u,) in database.sql(f"SELECT DISTINCT {UNIT} FROM golden ORDER BY 1").fetchall()
        ]
        rows = database.sql(
            f"SELECT {columns} FROM golden ORDER BY {PLACE}, {NUMBER} LIMIT {config.rows}"
        ).to_arrow_table()
    if rows.num_rows < config.rows:
        raise SlipwayError(_too_few(config, split, rows.num_rows, len(units)))
    require_target(facts, rows, "the golden set")
    write_table(golden / "golden.parquet", rows)
    write_facts(golden, with_rows(facts, rows))
    write_json(golden / "golden.json", _facts(split, facts, rows, units))


def is_golden(unit: str, share: float) -> bool:
    """Decide by the unit's hash alone, so that the decision never changes."""
    return splitting.fraction(unit, "golden") < share


def _golden_sql(config: "GoldenConfig", split: "SplitConfig", facts: TableFacts) -> str:
    """Select the rows of the golden units, each with its unit and the hash that orders it."""
    unit, part = splitting.unit_sql(split, facts), splitting.part_sql(split, facts)
    place = splitting.fraction_sql(splitting.key_sql(facts), "order")
    aside = f"{splitting.fraction_sql(UNIT, 'golden')} < {config.share_of_units!r}"
    return (
        f"SELECT *, {place} AS {PLACE} FROM"
        f" (SELECT *, {unit} AS {UNIT}, row_number() OVER () AS {NUMBER}"
        f" FROM {ROWS} WHERE {part} = '{splitting.TEST}') WHERE {aside}"
    )


def _too_few(config: "GoldenConfig", split: "SplitConfig", rows: int, units: int) -> str:
    what = "days" if split.by == "time" else "groups" if split.by == "group" else "rows"
    return (
        f"the {units:,} golden {what} of the test part hold {rows:,} rows, fewer than golden.rows"
        f" {config.rows:,}; widen split.test, or raise golden.share_of_units"
    )


def _facts(
    split: "SplitConfig", facts: TableFacts, rows: pa.Table, units: list[str]
) -> dict[str, object]:
    labels = encode(facts.target, rows[facts.target.name])
    named = {"units": units} if split.by in ("time", "group") and len(units) <= UNITS_LISTED else {}
    return {
        "by": split.by,
        "unit_count": len(units),
        "rows": rows.num_rows,
        **named,
        **PROBLEMS[facts.problem].describe(labels, None),
    }
