"""Hold the column that is to be predicted against what its problem wants of it."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from slipway.errors import SlipwayError
from slipway.problem import PROBLEMS, Labels, Target, TargetValues
from tasks.tables import TableFacts

DIFFERENT_MAX = 1000
"""Values that are told apart; more make no classes."""

LABEL_MISSING = -1


def require_target(facts: TableFacts, table: pa.Table, where: str) -> None:
    """Refuse a target that leaves nothing to learn or measure."""
    found = find_values(table[facts.target.name], classes=bool(facts.target.classes))
    PROBLEMS[facts.target.problem].check_target(facts.target, found, where)


def find_values(column: pa.ChunkedArray, *, classes: bool) -> TargetValues:
    """Sum up what a target holds: each value's rows, or the ends of its numbers."""
    kind = _kind(column.type)
    known = column.drop_null()
    if classes or kind not in ("whole number", "number"):
        counts = {
            c["values"].as_py(): c["counts"].as_py() for c in pc.value_counts(known)[:DIFFERENT_MAX]
        }
        return TargetValues(
            kind, len(column), column.null_count, counts=counts,
            more_values=len(counts) >= DIFFERENT_MAX,
        )  # fmt: skip
    numbers = pc.cast(known, pa.float64(), safe=False)
    finite = numbers.filter(pc.is_finite(numbers))
    bounds = pc.min_max(finite).as_py()
    ends = {bounds["min"], bounds["max"]} - {None}
    return TargetValues(
        kind, len(column), column.null_count, not_finite=len(numbers) - len(finite),
        counts=dict.fromkeys(ends, 1), more_values=len(ends) > 1,
    )  # fmt: skip


def encode(target: Target, column: pa.ChunkedArray | pa.Array) -> Labels:
    """Turn a column into labels float64 [N]: which class, or the number itself."""
    if not target.classes:
        return _float64(pc.cast(column, pa.float64(), safe=False))
    classes = pa.array(target.classes)
    places = pc.index_in(column.cast(classes.type), classes)
    return _float64(pc.cast(pc.fill_null(places, LABEL_MISSING), pa.float64()))


def _float64(column: pa.ChunkedArray | pa.Array) -> Labels:
    numbers: Labels = (
        column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    )
    return numbers


def _kind(of: pa.DataType) -> Any:
    """Name a type as people do."""
    if pa.types.is_integer(of):
        return "whole number"
    if pa.types.is_floating(of) or pa.types.is_decimal(of):
        return "number"
    if pa.types.is_boolean(of):
        return "truth value"
    if pa.types.is_string(of) or pa.types.is_large_string(of):
        return "text"
    raise SlipwayError(f"a target cannot be of the type {of}; CAST it in ingest.query")
