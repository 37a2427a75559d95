"""Find the columns of the query's result that depend on what is known only later.

The query runs twice more, each time with every value that is known later changed at random, and
is compared row by row, on the keys that both results have: which rows there are may depend on
the future (a cancelled flight has no delay), what is known of a row may not. A column that
differs anywhere is a leak, whatever it is called and however it was computed.

The first change moves whole rows of such values to other rows, among those in which the same
ones are missing: each value and each combination is one that there was, so whatever the query
can compute it still can, and a filter on what is missing keeps its rows. It leaves null
patterns, ties and totals as they are. The second moves each column by itself in half of the
rows, and takes values away, the largest and smallest too, so that these change as well.

Not seen: what no row of this data shows, and a key that depends on the future together with a
filter that does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slipway.errors import SlipwayError
from tasks.query import Difference, compare, count_kept, one_line, quoted

if TYPE_CHECKING:
    from slipway.config import IngestConfig

Rows: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"

CHANGED = '"the changed values"'

TAKEN_SHARE = 1 / 8
"""Of the values that the second change moves, these become missing; of the largest and the
smallest all do, unless that would be more than this share of the column."""

DROPPED_SHARE = 1 / 4
"""Rows taken out of a source of which nothing is known earlier: its rows are known later too."""

COMMON_SHARE_MIN, COMMON_ENOUGH = 1 / 20, 100
"""So many rows must have kept their key to tell anything, at most the second number."""

LOST_SHARE_MAX = 0.05
"""Where as many rows come out whatever is changed, no filter looks at the future; if more keys
than this are gone, the key does. Filters that pass as many rows twice by chance change fewer."""


@dataclass(frozen=True)
class Later:
    """What is known only later of one source, as it was read."""

    source: str
    values: pa.Table
    whole: bool
    """Nothing of the source is known earlier."""

    @property
    def names(self) -> list[str]:
        """The columns, in the order of the config."""
        return list(self.values.column_names)


Change: TypeAlias = Callable[[Later, np.random.Generator], pa.Table]


def find_leaks(database: duckdb.DuckDBPyConnection, config: "IngestConfig") -> list[str]:
    """Name the columns, the label apart, that differ when what is known later differs.

    The sources stay changed.
    """
    everything = [
        _read(database, name, [*source.columns], set(source.known_later))
        for name, source in config.sources.items()
        if source.known_later
    ]
    if not everything:
        return []
    run = partial(_run, database, config, everything)
    try:
        first = run(partial(move_rows, same_nulls=True), seed=1)
        try:
            second = run(move_columns, seed=2)
        except duckdb.Error:  # such as the logarithm of a duration that ends before it begins
            second = run(partial(move_rows, same_nulls=False), seed=3)
    except duckdb.Error as error:
        names = ", ".join(f"{one.source}.{c}" for one in everything for c in one.names)
        raise SlipwayError(
            "ingest.query cannot be checked for leaks: it fails where rows exchange what is known"
            f" only later ({names}): {one_line(error)}; put TRY(...) around what fails"
        ) from None
    return _judge(database, config, [first, second])


def move_rows(later: Later, dice: np.random.Generator, *, same_nulls: bool) -> pa.Table:
    """Give each row the values of another, with `same_nulls` one in which the same are missing.

    One round through all of them: unless they are all the same, at least one row differs.
    """
    rows = later.values.num_rows
    if later.whole:  # moving rows changes nothing there
        dropped = int(np.ceil(rows * DROPPED_SHARE)) if rows > 1 else 0
        return later.values.take(np.sort(dice.permutation(rows)[dropped:]))
    groups = _null_pattern(later.values) if same_nulls else np.zeros(rows, np.int64)
    return later.values.take(_rotated(groups, dice))


def move_columns(later: Later, dice: np.random.Generator) -> pa.Table:
    """Move each column by itself, in a half of the rows, and take some of its values away.

    The other half keeps its values, so that rows remain whatever the query demands of them.
    """
    columns = [_moved(column.combine_chunks(), dice) for column in later.values.columns]
    return pa.table(columns, schema=later.values.schema)


def _moved(column: pa.Array, dice: np.random.Generator) -> pa.Array:
    half = dice.permutation(len(column))[: max(2, len(column) // 2)]
    source = np.arange(len(column))
    source[half] = np.roll(half, 1)
    moved = column.take(source)
    if pc.count_distinct(column).as_py() < 2:  # moving changes nothing there
        moved = pc.if_else(_marks(len(column), half[::2]), _another(column), moved)
    taken = _marks(len(column), half[: int(np.ceil(len(half) * TAKEN_SHARE))])
    return pc.if_else(pc.or_(taken, _extremes(moved)), pa.scalar(None, column.type), moved)


def _marks(rows: int, marked: Rows) -> pa.Array:
    marks = np.zeros(rows, bool)
    marks[marked] = True
    return pa.array(marks)


def _rotated(groups: Rows, dice: np.random.Generator) -> Rows:
    """Let each row take from the next one of its group, in a random order; the last from the first.

    Returns the row that each takes from.
    """
    order = np.lexsort((dice.random(len(groups)), groups))
    new = np.diff(groups[order], prepend=groups[order[:1]] - 1) != 0
    last = np.roll(new, -1)
    source = np.empty_like(order)
    source[order] = np.roll(order, -1)
    source[order[last]] = order[new]
    return source


def _null_pattern(values: pa.Table) -> Rows:
    """Number the rows by which of their values are missing."""
    pattern = np.zeros(values.num_rows, np.int64)
    for column in values.columns:
        # 3 is odd: with many columns the first ones are mixed in, not shifted out
        pattern = 3 * pattern + column.is_null().to_numpy()
    return pattern


def _extremes(column: pa.Array) -> pa.Array:
    """Mark the largest and the smallest values, unless they are many."""
    bounds = pc.min_max(column)
    marks = pc.or_(pc.equal(column, bounds["min"]), pc.equal(column, bounds["max"]))
    marks = pc.fill_null(marks, False)
    few = (pc.sum(marks).as_py() or 0) <= TAKEN_SHARE * len(column)
    return pc.and_(marks, pa.scalar(few))


def _another(column: pa.Array) -> pa.Scalar:
    """Give a value that a column of at most one value does not hold."""
    if pa.types.is_large_string(column.type):
        low, high = pa.scalar("", column.type), pa.scalar("~", column.type)
    else:
        low, high = (pa.scalar(value).cast(column.type) for value in (0, 1))
    return high if low in column.drop_null()[:1] else low


def _read(
    database: duckdb.DuckDBPyConnection, source: str, columns: Sequence[str], later: set[str]
) -> Later:
    names = [column for column in columns if column in later]
    chosen = ", ".join(map(quoted, names))
    table = database.sql(f"SELECT {chosen} FROM {quoted(source)}").to_arrow_table()
    # a text column of over 2 GB fits no other type
    fields = [
        pa.field(f.name, pa.large_string() if pa.types.is_string(f.type) else f.type)
        for f in table.schema
    ]
    return Later(
        source, table.cast(pa.schema(fields)).combine_chunks(), whole=len(names) == len(columns)
    )


def _run(
    database: duckdb.DuckDBPyConnection,
    config: "IngestConfig",
    everything: Sequence[Later],
    change: Change,
    *,
    seed: int,
) -> Difference:
    """Change the sources, and compare what the query gives then with what it gave."""
    for number, later in enumerate(everything):
        _put(database, later, change(later, np.random.default_rng([seed, number])))
    return compare(database, config)


def _put(database: duckdb.DuckDBPyConnection, later: Later, values: pa.Table) -> None:
    """Put changed values into their source, whose rows keep their order."""
    database.register(CHANGED.strip('"'), values)
    source = quoted(later.source)
    columns = ", ".join(f"{CHANGED}.{quoted(c)} AS {quoted(c)}" for c in later.names)
    select = f"SELECT {source}.* REPLACE ({columns}) FROM {source} POSITIONAL JOIN {CHANGED}"
    if later.whole:
        select = f"SELECT {columns} FROM {CHANGED}"
    database.execute(f"CREATE OR REPLACE TEMP TABLE {source} AS {select}")
    database.unregister(CHANGED.strip('"'))


def _judge(
    database: duckdb.DuckDBPyConnection, config: "IngestConfig", found: Sequence[Difference]
) -> list[str]:
    rows = count_kept(database)
    wanted = min(int(rows * COMMON_SHARE_MIN), COMMON_ENOUGH)
    if max(change.common for change in found) < wanted:
        raise SlipwayError(
            "ingest.query cannot be checked for leaks: hardly a row keeps its key when what is"
            f" known only later changes; make ingest.key ({', '.join(config.key)}) of what is"
            " known, and leave out rows by the label alone"
        )
    leaks = {column for change in found for column in change.columns}
    if all(c.rows == rows and rows - c.common > LOST_SHARE_MAX * rows for c in found):
        leaks |= set(config.key)
    return sorted(leaks - {config.label})
