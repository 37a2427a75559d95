"""A table in a file, judged by rules, as the tests of validate need it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.expectations import Rule
from tasks.validate.checks import DataDocs, RuleVerdict, require_answers
from tasks.validate.relation import Relation, opened


@contextmanager
def relation_of(folder: Path, table: pa.Table, timeout_s: float = 60) -> Iterator[Relation]:
    """Open a table that was written to a file."""
    pq.write_table(table, folder / "table.parquet")
    with opened(folder / "table.parquet", timeout_s, folder) as relation:
        yield relation


def rule(kind: str, level: str = "suite", **kwargs: Any) -> Rule:
    """Make a rule."""
    return Rule(f"expect_{kind}", kwargs, level, "")


def judged(folder: Path, table: pa.Table, *rules: Rule) -> list[RuleVerdict]:
    """Judge a table; in the order of the rules."""
    with relation_of(folder, table) as relation:
        require_answers(Path("suite.json"), rules, relation)
        verdicts = DataDocs(folder / "docs").check("table", rules, relation)
    return sorted(verdicts, key=lambda verdict: rules.index(verdict.rule))
