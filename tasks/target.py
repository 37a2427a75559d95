"""Hold the column that is to be predicted against what its problem wants of it."""

import pyarrow as pa
import pyarrow.compute as pc

from slipway.problem import PROBLEMS
from tasks.tables import TableFacts


def require_target(facts: TableFacts, table: pa.Table, where: str) -> None:
    """Refuse a label that leaves nothing to learn or measure."""
    values = pc.unique(table[facts.label]).to_pylist()
    PROBLEMS[facts.problem].check_target(values, facts.label, where)
