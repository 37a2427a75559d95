"""Great Expectations' metrics, answered by SQL: what each asks of the table and makes of it.

A metric asks in steps. What all metrics ask in one step is one SELECT, so that the table is read
once for it, whatever number of rules there is: each answer is a generator that yields what it
wants to know and is sent the value.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from tasks.query import one_thread
from tasks.validate.columns import Column
from tasks.validate.literals import Refusal, is_one_of, literal, parse_moment
from tasks.validate.relation import EMPTY, ROW, Relation
from tasks.validate.row_tests import (
    ABOUT_MISSING,
    IN_ORDER,
    PAIRS,
    SEVERAL,
    SINGLE,
    Kwargs,
    RowTest,
    exceeds,
    require_numbers,
    require_order,
    row_test,
)

EXAMPLES = 20
"""Rows that break a rule and are shown in Data Docs; Great Expectations shows as many."""

Z_SCORE = "column_values.z_score.under_threshold"

ROW_METRICS = frozenset(
    (*ABOUT_MISSING, *IN_ORDER, *PAIRS, *SEVERAL, *SINGLE, "column_values.unique", Z_SCORE)
)
"""Map metrics: those that ask a question of every row."""


@dataclass(frozen=True)
class Aggregate:
    """One value over the rows that fulfil a condition, in the same SELECT as the others."""

    sql: str
    given: str
    ordered: bool = False
    """Sums of floats depend on the order of the additions: one thread adds them."""


@dataclass(frozen=True)
class Query:
    """What takes a query of its own."""

    sql: str


Answer = Generator[Aggregate | Query, Any, Any]


def settle(relation: Relation, answers: Mapping[Any, Answer]) -> dict[Any, Any]:
    """Answer all questions, each step of all of them at once."""
    values: dict[Any, Any] = {}
    sent: dict[Any, Any] = dict.fromkeys(answers)
    while sent:
        asked = {}
        for key, value in sent.items():
            try:
                asked[key] = answers[key].send(value)
            except StopIteration as done:
                values[key] = done.value
        found = _ask(relation, list(dict.fromkeys(asked.values())))
        sent = {key: found[question] for key, question in asked.items()}
    return values


def dry_run(relation: Relation, answer: Answer) -> None:
    """Put a metric's questions to a table of no rows; raise Refusal for what has no answer."""
    settle(relation.view(EMPTY), {None: answer})


def _ask(relation: Relation, questions: Sequence[Aggregate | Query]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for ordered in (False, True):
        bundle = [q for q in questions if isinstance(q, Aggregate) and q.ordered == ordered]
        if bundle:
            found |= zip(bundle, _select(relation, bundle, ordered), strict=True)
    queries = [q for q in questions if isinstance(q, Query)]
    return found | {q: relation.rows(q.sql) for q in queries}


def _select(relation: Relation, bundle: Sequence[Aggregate], ordered: bool) -> tuple[Any, ...]:
    wanted = ", ".join(
        q.sql if q.given == "TRUE" else f"{q.sql} FILTER (WHERE {q.given})" for q in bundle
    )
    query = f"SELECT {wanted} FROM {relation.name}"
    if not ordered:
        return relation.rows(query)[0]
    with one_thread(relation.database):
        return relation.rows(query)[0]


def find_test(relation: Relation, metric: str, kwargs: Kwargs, given: str) -> Answer:
    """Write a map metric's question to the rows; one about deviations must know them first."""
    if metric != Z_SCORE:
        return row_test(relation, metric, kwargs, given)
    column = require_numbers(relation.column(kwargs["column"]))
    considered = f"{given} AND {column.sql} IS NOT NULL"
    mean = yield _mean(column, considered)
    deviation = yield _deviation(column, considered)
    return RowTest((column,), considered, exceeds(column, kwargs, (mean, deviation)))


def _count(relation: Relation, metric: str, kwargs: Kwargs, given: str) -> Answer:
    """Count the rows that break a rule."""
    test: RowTest = yield from find_test(relation, metric, kwargs, given)
    if test.count is not None:
        [(count,)] = yield Query(test.count)
        return int(count)
    return (yield Aggregate("count(*)", test.found))


def _considered(relation: Relation, metric: str, kwargs: Kwargs, given: str) -> Answer:
    """Count the rows that a rule does not leave out."""
    test: RowTest = yield from find_test(relation, metric, kwargs, given)
    return (yield Aggregate("count(*)", test.considered))


def _examples(relation: Relation, metric: str, kwargs: Kwargs, given: str) -> Answer:
    """Show the first rows that break a rule."""
    if not (yield from _count(relation, metric, kwargs, given)):
        return []
    test: RowTest = yield from find_test(relation, metric, kwargs, given)
    shown = ", ".join(map(_shown, test.columns))
    rows = yield Query(
        f"SELECT {shown} FROM {relation.name} WHERE {test.found} ORDER BY {ROW} LIMIT {EXAMPLES}"
    )
    values = [tuple(map(_as_known, test.columns, row)) for row in rows]
    if metric in SEVERAL:
        names = [column.name for column in test.columns]
        return [dict(zip(names, row, strict=True)) for row in values]
    return values if metric in PAIRS else [value for (value,) in values]


def _nothing(relation: Relation, metric: str, kwargs: Kwargs, given: str) -> Answer:
    """Leave out what Great Expectations asks for and does not need."""
    return
    yield


SUFFIXES: dict[str, Callable[[Relation, str, Kwargs, str], Answer]] = {
    "unexpected_count": _count,
    "unexpected_values": _examples,
    "filtered_row_count": _considered,
}
"""What Great Expectations asks of a map metric."""


def _shown(column: Column) -> str:
    """Select a value so that Python can hold it."""
    if column.sql_type == "TIMESTAMP WITH TIME ZONE":
        return f"CAST({column.sql} AS TIMESTAMP)"
    kinds = ("integer", "decimal", "float", "text", "boolean", "date", "time", "timestamp")
    return column.sql if column.kind in kinds else f"CAST({column.sql} AS VARCHAR)"


def _as_known(column: Column, value: Any) -> Any:
    """Give a value as people know it: a float32 of 0.1 is 0.1."""
    if value is not None and column.sql_type == "FLOAT":
        return float(str(np.float32(value)))
    return value


def _mean(column: Column, given: str) -> Aggregate:
    if column.kind == "float":
        return Aggregate(f"avg({_double(column)})", given, ordered=True)
    return Aggregate(f"avg({column.sql})", given)


def _deviation(column: Column, given: str) -> Aggregate:
    return Aggregate(f"stddev_samp({_double(column)})", given, ordered=True)


def _double(column: Column) -> str:
    return f"CAST({column.sql} AS DOUBLE)"


def _row_count(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    return (yield Aggregate("count(*)", given))


def _columns(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    return relation.names
    yield


def _column_count(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    return len(relation.columns)
    yield


def _types(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    return [{"name": column.name, "type": column} for column in relation.columns]
    yield


def _extreme(function: str) -> Callable[[Relation, Kwargs, str], Answer]:
    def answer(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
        column = require_order(relation.column(kwargs["column"]))
        _require_comparable(column)
        value = yield Aggregate(f"{function}({_shown(column)})", given)
        return _as_moment(_as_known(column, value))

    return answer


def _require_comparable(column: Column) -> None:
    """Refuse what Great Expectations cannot compare with a bound in JSON."""
    if column.kind == "time":
        raise Refusal(
            f"column {column.name!r} is {column.type}; use expect_column_values_to_be_between"
        )


def _as_moment(value: Any) -> Any:
    """Make a day the moment of its beginning: a bound in JSON is read as a moment."""
    return parse_moment(value) if isinstance(value, date) else value


def _mean_of(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    return (yield _mean(require_numbers(relation.column(kwargs["column"])), given))


def _deviation_of(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    return (yield _deviation(require_numbers(relation.column(kwargs["column"])), given))


def _sum(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    column = require_numbers(relation.column(kwargs["column"]))
    if column.kind == "float":
        total = yield Aggregate(f"sum({_double(column)})", given, ordered=True)
    else:
        total = yield Aggregate(f"sum({column.sql})", given)
    return 0 if total is None else total


def _median(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    column = require_order(relation.column(kwargs["column"]))
    _require_comparable(column)
    [middle] = yield from _quantiles(column, given, [0.5], "midpoint")
    return _as_moment(middle)


def _quantile_values(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    column = require_numbers(relation.column(kwargs["column"]))
    way = kwargs.get("allow_relative_error") or "nearest"
    if way not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise Refusal(f"allow_relative_error must be false or a way to interpolate, got {way!r}")
    return (yield from _quantiles(column, given, kwargs["quantiles"], way))


def _quantiles(column: Column, given: str, quantiles: Sequence[float], way: str) -> Answer:
    """Find the values at exact positions, as pandas counts them, and interpolate here."""
    count = yield Aggregate(f"count({column.sql})", given)
    if not count:
        return [None for _ in quantiles]
    places = [(count - 1) * quantile for quantile in quantiles]
    ends = sorted({end for place in places for end in (math.floor(place), math.ceil(place))})
    # quantile_disc takes the value at position ceil(count * share) - 1
    shares = ", ".join(repr((end + 0.5) / count) for end in ends)
    found = yield Aggregate(f"quantile_disc({_shown(column)}, [{shares}])", given)
    at = dict(zip(ends, found, strict=True))
    return [_interpolated(at, place, way) for place in places]


def _interpolated(at: Mapping[int, Any], place: float, way: str) -> Any:
    low, high = at[math.floor(place)], at[math.ceil(place)]
    share = place - math.floor(place)
    match way:
        case "lower":
            return low
        case "higher":
            return high
        case "nearest":
            return at[round(place)]
        case "midpoint":
            share = 0.5 if share else 0.0
    if not share or isinstance(low, str):
        return low
    if isinstance(low, date) and not isinstance(low, datetime):
        low, high = parse_moment(low), parse_moment(high)
    return low + (high - low) * type(share)(share) if _floats(low) else low + (high - low) / 2


def _floats(value: Any) -> bool:
    return isinstance(value, int | float)


def _distinct_count(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    return (yield Aggregate(f"count(DISTINCT {relation.column(kwargs['column']).sql})", given))


def _unique_share(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    column = relation.column(kwargs["column"])
    distinct = yield Aggregate(f"count(DISTINCT {column.sql})", given)
    count = yield Aggregate(f"count({column.sql})", given)
    return distinct / count if count else 0


def _present_share(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    count = yield Aggregate(f"count({relation.column(kwargs['column']).sql})", given)
    rows = yield Aggregate("count(*)", given)
    return count / rows if rows else 0


def _most_common(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    column = require_order(relation.column(kwargs["column"]))
    groups = (
        f"SELECT {column.sql} AS value, count(*) AS rows FROM {relation.name}"
        f" WHERE {given} AND {column.sql} IS NOT NULL GROUP BY value"
    )
    rows = yield Query(
        f"WITH groups AS ({groups}) SELECT {_shown(column).replace(column.sql, 'value')}"
        " FROM groups WHERE rows = (SELECT max(rows) FROM groups) ORDER BY value"
    )
    return [_as_known(column, value) for (value,) in rows]


def _others(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    column = relation.column(kwargs["column"])
    known = is_one_of(column, kwargs["value_set"])
    rows = yield Query(
        f"SELECT DISTINCT {_shown(column)} AS value FROM {relation.name}"
        f" WHERE {given} AND NOT ({known}) ORDER BY value LIMIT {EXAMPLES}"
    )
    return [_as_known(column, value) for (value,) in rows]


def _others_count(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    column = relation.column(kwargs["column"])
    known = is_one_of(column, kwargs["value_set"])
    sql = f"count(DISTINCT {column.sql})"
    return (yield Aggregate(sql, f"{given} AND {column.sql} IS NOT NULL AND NOT ({known})"))


def _absent(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    """List the values of the set that the column does not hold."""
    column = relation.column(kwargs["column"])
    values = [v for v in dict.fromkeys(kwargs["value_set"]) if v is not None]
    tests = [f"bool_or({given} AND {column.sql} = {literal(column, value)})" for value in values]
    there = yield Aggregate(f"[{', '.join(tests)}]", "TRUE")
    return [value for value, found in zip(values, there, strict=True) if not found]


def _absent_count(relation: Relation, kwargs: Kwargs, given: str) -> Answer:
    return len((yield from _absent(relation, kwargs, given)))


METRICS: dict[str, Callable[[Relation, Kwargs, str], Answer]] = {
    "table.row_count": _row_count,
    "table.columns": _columns,
    "table.column_count": _column_count,
    "table.column_types": _types,
    "column.min": _extreme("min"),
    "column.max": _extreme("max"),
    "column.mean": _mean_of,
    "column.median": _median,
    "column.standard_deviation": _deviation_of,
    "column.sum": _sum,
    "column.quantile_values": _quantile_values,
    "column.distinct_values.count": _distinct_count,
    "column.unique_proportion": _unique_share,
    "column.non_null_proportion": _present_share,
    "column.most_common_value": _most_common,
    "column.distinct_values.not_in_set": _others,
    "column.distinct_values.not_in_set.count": _others_count,
    "column.distinct_values.missing_from_column": _absent,
    "column.distinct_values.missing_from_column.count": _absent_count,
}
"""Metrics of the table and of a column as a whole."""


def answer(relation: Relation, metric: str, kwargs: Kwargs, given: str) -> Answer:
    """Begin to answer a metric by its name; `given`: the condition on the rows that it is about."""
    if metric in METRICS:
        return METRICS[metric](relation, kwargs, given)
    test, _, suffix = metric.rpartition(".")
    return SUFFIXES[suffix](relation, test, kwargs, given)


def answerable() -> list[str]:
    """Name every metric that can be answered."""
    return [*METRICS, *(f"{test}.{suffix}" for test in sorted(ROW_METRICS) for suffix in SUFFIXES)]
