"""What a rule asks of each row, in SQL, by the name of Great Expectations' map metric.

Missing values as Great Expectations means them: a rule about one column leaves out rows that
miss it (unless it is about missing), a rule about several says so by `ignore_row_if`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tasks.validate.columns import Column
from tasks.validate.literals import (
    COMPARED,
    Refusal,
    compare,
    is_one_of,
    literal,
    quoted_text,
)
from tasks.validate.relation import ROW, Relation

Kwargs = Mapping[str, Any]


@dataclass(frozen=True)
class RowTest:
    """A question to every row that is considered."""

    columns: tuple[Column, ...]
    """What is shown of a row that breaks the rule."""
    considered: str
    broken: str
    """True of a row that breaks the rule, given that it is considered; may be NULL."""
    count: str | None = None
    """A query that counts the broken rows with less memory than asking each row."""

    @property
    def found(self) -> str:
        """Give the condition that picks the broken rows."""
        return f"({self.considered}) AND ({self.broken})"


Statistics = tuple[float | None, float | None]
"""Mean and standard deviation of the values considered."""


def row_test(relation: Relation, metric: str, kwargs: Kwargs, given: str) -> RowTest:
    """Write a map metric's question. `given`: the rule's row condition, or TRUE."""
    if metric in PAIRS:
        return _of_pair(relation, metric, kwargs, given)
    if metric in SEVERAL:
        return _of_several(relation, metric, kwargs, given)
    column = relation.column(kwargs["column"])
    if metric in ABOUT_MISSING:
        return RowTest((column,), given, f"{column.sql} {ABOUT_MISSING[metric]}")
    considered = f"{given} AND {column.sql} IS NOT NULL"
    if metric in IN_ORDER:
        return _in_order(relation, column, considered, _order(metric, kwargs))
    if metric == "column_values.unique":
        return _repeated(relation, (column,), considered)
    return RowTest((column,), considered, SINGLE[metric](column, kwargs))


def exceeds(column: Column, kwargs: Kwargs, statistics: Statistics) -> str:
    """Write the question whether a value lies too many standard deviations off."""
    mean, deviation = statistics
    if mean is None or not deviation or deviation != deviation:
        return "FALSE"
    score = f"(CAST({column.sql} AS DOUBLE) - {mean!r}) / {deviation!r}"
    threshold = float(kwargs["threshold"])
    if kwargs.get("double_sided"):
        return f"NOT (abs({score}) < {abs(threshold)!r})"
    return f"NOT ({score} < {threshold!r})"


def require_numbers(column: Column) -> Column:
    """Refuse to compute with what is no number."""
    if column.kind not in ("integer", "decimal", "float"):
        raise Refusal(f"column {column.name!r} is {column.type}, not a number")
    return column


def require_order(column: Column) -> Column:
    """Refuse to compare values of a type that has no order."""
    if column.kind not in COMPARED:
        raise Refusal(f"column {column.name!r} is {column.type}, which has no order")
    return column


def as_text(column: Column) -> str:
    """Give a column as text where its text is beyond doubt."""
    if column.kind not in ("text", "integer", "decimal", "boolean", "date"):
        raise Refusal(f"column {column.name!r} is {column.type}, not text")
    return column.text


def _between(column: Column, kwargs: Kwargs) -> str:
    low, high = _bounds(kwargs)
    tests = []
    if low is not None:
        tests.append(compare(column, "<=" if kwargs.get("strict_min") else "<", low))
    if high is not None:
        tests.append(compare(column, ">=" if kwargs.get("strict_max") else ">", high))
    return " OR ".join(tests)


def _length_between(column: Column, kwargs: Kwargs) -> str:
    low, high = _bounds(kwargs)
    length, tests = f"length({as_text(column)})", []
    if low is not None:
        tests.append(f"{length} {'<=' if kwargs.get('strict_min') else '<'} {float(low)!r}")
    if high is not None:
        tests.append(f"{length} {'>=' if kwargs.get('strict_max') else '>'} {float(high)!r}")
    return " OR ".join(tests)


def _bounds(kwargs: Kwargs) -> tuple[Any, Any]:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is None and high is None:
        raise Refusal("needs min_value or max_value")
    return low, high


def _length_is(column: Column, kwargs: Kwargs) -> str:
    return f"length({as_text(column)}) <> {float(kwargs['value'])!r}"


def _not_in_set(column: Column, kwargs: Kwargs) -> str:
    return f"NOT ({is_one_of(column, kwargs['value_set'])})"


def _in_set(column: Column, kwargs: Kwargs) -> str:
    return is_one_of(column, kwargs["value_set"])


def _regex(column: Column, kwargs: Kwargs) -> str:
    return f"regexp_matches({as_text(column)}, {quoted_text(kwargs['regex'])})"


def _regexes(column: Column, kwargs: Kwargs) -> str:
    return _joined([_regex(column, {"regex": r}) for r in kwargs["regex_list"]], kwargs)


def _like(column: Column, kwargs: Kwargs) -> str:
    escape = f" ESCAPE {quoted_text(kwargs['escape'])}" if kwargs.get("escape") else ""
    return f"{as_text(column)} LIKE {quoted_text(kwargs['like_pattern'])}{escape}"


def _likes(column: Column, kwargs: Kwargs) -> str:
    patterns = kwargs["like_pattern_list"]
    return _joined([_like(column, {**kwargs, "like_pattern": p}) for p in patterns], kwargs)


def _joined(tests: list[str], kwargs: Kwargs) -> str:
    if not tests:
        raise Refusal("needs at least one pattern")
    return (" AND " if kwargs.get("match_on") == "all" else " OR ").join(f"({t})" for t in tests)


def _not(test: Callable[[Column, Kwargs], str]) -> Callable[[Column, Kwargs], str]:
    return lambda column, kwargs: f"NOT ({test(column, kwargs)})"


def _json(column: Column, kwargs: Kwargs) -> str:
    return f"json_valid({_only_text(column).sql})"


def _strftime(column: Column, kwargs: Kwargs) -> str:
    format_ = quoted_text(kwargs["strftime_format"])
    return f"try_strptime({_only_text(column).sql}, {format_}) IS NOT NULL"


def _only_text(column: Column) -> Column:
    if column.kind != "text":
        raise Refusal(f"column {column.name!r} is {column.type}, not text")
    return column


def _order(metric: str, kwargs: Kwargs) -> str:
    return IN_ORDER[metric] + ("=" if kwargs.get("strictly") else "")


def _in_order(relation: Relation, column: Column, considered: str, operator: str) -> RowTest:
    """Compare each value with the one before it, in the order of the file."""
    value = require_order(column).sql
    pairs = (
        f"SELECT {ROW}, {value} {operator} lag({value}) OVER (ORDER BY {ROW}) AS broken"
        f" FROM {relation.name} WHERE {considered}"
    )
    query = f"FROM ({pairs}) WHERE broken"
    return RowTest(
        (column,), considered, f"{ROW} IN (SELECT {ROW} {query})", f"SELECT count(*) {query}"
    )


def _repeated(relation: Relation, columns: tuple[Column, ...], considered: str) -> RowTest:
    """Find the values that several rows share; a group's size counts its rows in one pass."""
    key = ", ".join(column.sql for column in columns)
    groups = f"FROM {relation.name} WHERE {considered} GROUP BY {key} HAVING count(*) > 1"
    same = " AND ".join(f"same.{c.sql} IS NOT DISTINCT FROM rows.{c.sql}" for c in columns)
    rows = (
        f"SELECT rows.{ROW} FROM {relation.name} AS rows"
        f" SEMI JOIN (SELECT {key} {groups}) AS same ON {same}"
    )
    return RowTest(
        columns,
        considered,
        f"{ROW} IN ({rows})",
        f"SELECT coalesce(sum(rows), 0) FROM (SELECT count(*) AS rows {groups})",
    )


def _of_pair(relation: Relation, metric: str, kwargs: Kwargs, given: str) -> RowTest:
    pair = (relation.column(kwargs["column_A"]), relation.column(kwargs["column_B"]))
    missing = [f"{column.sql} IS NULL" for column in pair]
    match kwargs.get("ignore_row_if") or "both_values_are_missing":
        case "both_values_are_missing":
            given = f"{given} AND NOT ({' AND '.join(missing)})"
        case "either_value_is_missing":
            given = f"{given} AND NOT ({' OR '.join(missing)})"
        case "neither":
            pass
        case other:
            raise Refusal(f"unknown ignore_row_if {other!r}")
    return RowTest(pair, given, f"({PAIRS[metric](pair, kwargs)}) IS NOT TRUE")


def _greater(pair: tuple[Column, ...], kwargs: Kwargs) -> str:
    a, b = _alike(pair)
    return f"{require_order(a).sql} {'>=' if kwargs.get('or_equal') else '>'} {b.sql}"


def _equal(pair: tuple[Column, ...], kwargs: Kwargs) -> str:
    a, b = _alike(pair)
    return f"{a.sql} = {b.sql}"


def _pair_in_set(pair: tuple[Column, ...], kwargs: Kwargs) -> str:
    known = [
        " AND ".join(_is(column, value) for column, value in zip(pair, values, strict=True))
        for values in kwargs["value_pairs_set"]
    ]
    return " OR ".join(f"({test})" for test in known) or "FALSE"


def _is(column: Column, value: Any) -> str:
    if value is None:
        return f"{column.sql} IS NULL"
    return f"coalesce({column.sql} = {literal(column, value)}, FALSE)"


def _of_several(relation: Relation, metric: str, kwargs: Kwargs, given: str) -> RowTest:
    columns = tuple(relation.column(name) for name in kwargs["column_list"])
    if len(columns) < 2:
        raise Refusal("needs at least two columns")
    missing = [f"{column.sql} IS NULL" for column in columns]
    match kwargs.get("ignore_row_if") or "all_values_are_missing":
        case "all_values_are_missing":
            given = f"{given} AND NOT ({' AND '.join(missing)})"
        case "any_value_is_missing":
            given = f"{given} AND NOT ({' OR '.join(missing)})"
        case "never":
            pass
        case other:
            raise Refusal(f"unknown ignore_row_if {other!r}")
    if metric == "compound_columns.unique":
        return _repeated(relation, columns, given)
    return RowTest(columns, given, f"({SEVERAL[metric](columns, kwargs)}) IS NOT TRUE")


def _sum_is(columns: tuple[Column, ...], kwargs: Kwargs) -> str:
    """Add without overflow and, where all are exact, without rounding."""
    kinds = {require_numbers(column).kind for column in columns}
    type_ = "HUGEINT" if kinds == {"integer"} else "DOUBLE"
    if kinds in ({"decimal"}, {"decimal", "integer"}):
        scales = [int(c.sql_type[:-1].split(",")[1]) for c in columns if c.kind == "decimal"]
        type_ = f"DECIMAL(38,{max(scales)})"
    total = " + ".join(f"CAST({column.sql} AS {type_})" for column in columns)
    return f"{total} = {float(kwargs['sum_total'])!r}"


def _all_equal(columns: tuple[Column, ...], kwargs: Kwargs) -> str:
    first, *others = _alike(columns)
    return " AND ".join(f"{first.sql} IS NOT DISTINCT FROM {other.sql}" for other in others)


def _all_different(columns: tuple[Column, ...], kwargs: Kwargs) -> str:
    pairs = combinations(_alike(columns), 2)
    return " AND ".join(f"{a.sql} IS DISTINCT FROM {b.sql}" for a, b in pairs)


def _alike(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Refuse to compare columns of different kinds: SQL would convert one into the other."""
    numbers = ("integer", "decimal", "float")
    days = ("date", "timestamp")
    for family in (numbers, days):
        if all(column.kind in family for column in columns):
            return columns
    if len({column.kind for column in columns}) > 1:
        shown = ", ".join(f"{column.name!r} is {column.type}" for column in columns)
        raise Refusal(f"compares columns of different kinds: {shown}")
    return columns


ABOUT_MISSING = {"column_values.nonnull": "IS NULL", "column_values.null": "IS NOT NULL"}

IN_ORDER = {"column_values.increasing": "<", "column_values.decreasing": ">"}
"""How a value that is out of order compares with the one before it."""

SINGLE: dict[str, Callable[[Column, Kwargs], str]] = {
    "column_values.between": _between,
    "column_values.in_set": _not_in_set,
    "column_values.not_in_set": _in_set,
    "column_values.value_length.between": _length_between,
    "column_values.value_length.equals": _length_is,
    "column_values.match_regex": _not(_regex),
    "column_values.not_match_regex": _regex,
    "column_values.match_regex_list": _not(_regexes),
    "column_values.not_match_regex_list": _regexes,
    "column_values.match_like_pattern": _not(_like),
    "column_values.not_match_like_pattern": _like,
    "column_values.match_like_pattern_list": _not(_likes),
    "column_values.not_match_like_pattern_list": _likes,
    "column_values.match_strftime_format": _not(_strftime),
    "column_values.json_parseable": _not(_json),
}
"""True of a value that breaks the rule."""

PAIRS: dict[str, Callable[[tuple[Column, ...], Kwargs], str]] = {
    "column_pair_values.a_greater_than_b": _greater,
    "column_pair_values.equal": _equal,
    "column_pair_values.in_set": _pair_in_set,
}
"""True of a row that keeps the rule."""

SEVERAL: dict[str, Callable[[tuple[Column, ...], Kwargs], str]] = {
    "multicolumn_sum.equal": _sum_is,
    "multicolumn_values.equal": _all_equal,
    "select_column_values.unique.within_record": _all_different,
    "compound_columns.unique": _all_equal,  # answered by groups
}
"""True of a row that keeps the rule."""
