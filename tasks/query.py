"""Run the pipeline's query so that it repeats, and compare what it gives now with what it gave.

Threads add floats in the order in which they happen to come: with DuckDB 2.0 on two threads
`avg` by group came out otherwise in its last bits for 908,725 of 1,000,000 rows, and `first`
for all. So what counts is always the result of one thread.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import duckdb

from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from slipway.config import IngestConfig

KEPT = '"the table"'
"""Where the first result is kept. Sources are identifiers, so none has a space in its name."""

ROUNDED = {"DOUBLE": 1e-11, "FLOAT": 2e-7}
"""What a sum of floats may differ by when it adds in another order, as a share of its size or of
the column's median: a few last bits."""

CHANCE = {
    *("random", "setseed", "uuid", "uuidv4", "uuidv7", "gen_random_uuid"),
    *("nextval", "currval", "setval", "txid_current", "current_transaction_id"),
    *("current_query_id", "current_connection_id", "pg_postmaster_start_time"),
    *("now", "today", "ago", "get_current_time", "get_current_timestamp", "pg_conf_load_time"),
    *("transaction_timestamp", "current_localtime", "current_localtimestamp"),
}
"""Functions of the clock and of chance. DuckDB 2.0's own catalogue calls some of them
consistent, `current_localtimestamp` for one."""

CLOCK = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
"""What tells the time without brackets."""


@dataclass(frozen=True)
class Difference:
    """What a result has other than the one that was kept."""

    kept: int
    """Rows that were kept."""
    rows: int
    """Rows of the result."""
    common: int
    """Those whose key the kept rows have too."""
    columns: tuple[str, ...]
    """Columns that differ in any common row, or are gone, but for those that were left out."""


@dataclass(frozen=True)
class _Against:
    """What a result is compared with."""

    config: "IngestConfig"
    kept: str
    left_out: Collection[str]
    until: int | None

    def asked(self) -> str:
        """Write the condition of the rows that count."""
        if self.until is None:
            return "true"
        return f"coalesce(TRY(epoch_us({quoted(str(self.config.time))})) <= {self.until}, false)"


def keep(database: duckdb.DuckDBPyConnection, config: "IngestConfig") -> int:
    """Run the query and keep its result; return how many rows it gave, each with its own key."""
    if names := chance_in(config.query, {c for s in config.sources.values() for c in s.columns}):
        raise SlipwayError(
            f"ingest.query uses {', '.join(names)}: it would give other values every time it"
            " runs; take the time from a column, and chance from hash(key)"
        )
    try:
        create(database, config, KEPT)
    except duckdb.Error as error:
        raise SlipwayError(f"ingest.query: {one_line(error)}") from None
    if config.key:
        _require_unique(database, config.key)
    return count_kept(database)


def create(database: duckdb.DuckDBPyConnection, config: "IngestConfig", kept: str) -> None:
    """Run the query on the sources as they are now, and keep the result in place of an older."""
    database.execute(f"DROP TABLE IF EXISTS {kept}")
    with one_thread(database):
        _select(database, config).create(kept)


def kept_in_order(
    database: duckdb.DuckDBPyConnection, config: "IngestConfig"
) -> duckdb.DuckDBPyRelation:
    """Return the kept rows in an order that does not depend on threads."""
    kept = database.table(KEPT)
    first = [*([config.time] if config.time else []), *config.key]
    rest = [column for column in kept.columns if column not in first]
    return kept.order(", ".join(quoted(column) for column in [*first, *rest]))


def count_kept(database: duckdb.DuckDBPyConnection) -> int:
    """Count the kept rows."""
    [(rows,)] = database.execute(f"SELECT count(*) FROM {KEPT}").fetchall()
    return int(rows)


def require_repeatable(database: duckdb.DuckDBPyConnection, config: "IngestConfig") -> None:
    """Refuse a query that gives something else when it runs again on the same sources.

    Sums of what is in the rows tell it: no rows are joined. All threads come first, as that is
    faster; what they find different counts only if one thread alone finds it too.
    """
    kept = database.table(KEPT)
    try:
        wanted = _sum_of_rows(kept)
        if _sum_of_rows(_select(database, config)) == wanted:
            return
        with one_thread(database):
            if _sum_of_rows(_select(database, config)) == wanted:
                return
            again = _compare(database, _Against(config, KEPT, (), None))
    except duckdb.Error as error:
        raise SlipwayError(f"ingest.query, run again: {one_line(error)}") from None
    other = f"values in {', '.join(again.columns)}" if again.columns else "rows"
    raise SlipwayError(
        f"ingest.query gives other {other} when it runs twice on the same sources, so nothing"
        " made of it would repeat; order what LIMIT, first or a window takes from, by the key last"
    )


def compare(
    database: duckdb.DuckDBPyConnection,
    config: "IngestConfig",
    *,
    kept: str = KEPT,
    left_out: Collection[str] = (),
    until: int | None = None,
) -> Difference:
    """Run the query on the sources as they are now and compare it with what was kept.

    `until` leaves out rows asked for after a moment, in microseconds. A hash of each row comes
    first, as that is faster, and all threads do; what they find different counts only if one
    thread alone finds it too.
    """
    against = _Against(config, kept, left_out, until)
    found = _compare_hashes(database, against)
    if found.columns:
        found = _compare(database, against)
    if found.columns:
        with one_thread(database):
            found = _compare(database, against)
    return found


def chance_in(query: str, columns: set[str]) -> list[str]:
    """Name what makes a query depend on the clock or on chance."""
    words = _words(query)
    found = []
    for i, word in enumerate(words):
        before, after = words[i - 1 : i], words[i + 1 : i + 2]
        name = word.strip('"').lower()
        if after == ["("]:
            if name in CHANCE or (name == "age" and _arguments(words[i + 1 :]) == 1):
                found.append(f"{name}()")
        elif word.lower() in CLOCK - columns and "." not in (*before, *after):
            found.append(name)
        elif name == "tablesample" or (name == "sample" and [*map(str.lower, before)] == ["using"]):
            found += [] if _has_seed(words[i + 1 :]) else ["a sample without a seed"]
    return sorted(set(found))


@contextmanager
def one_thread(database: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let DuckDB use a single thread for a while."""
    [(threads,)] = database.execute("SELECT current_setting('threads')").fetchall()
    database.execute("SET threads = 1")
    try:
        yield
    finally:
        database.execute(f"SET threads = {int(threads)}")


def names_in(query: str) -> set[str]:
    """Name what a query names, in small letters."""
    return {word.strip('"').lower() for word in _words(query)}


def quoted(name: str) -> str:
    """Write a column's name for SQL, whatever stands in it."""
    return '"' + name.replace('"', '""') + '"'


def one_line(error: Exception) -> str:
    """Put an error on one line."""
    return " ".join(str(error).split())


def _select(database: duckdb.DuckDBPyConnection, config: "IngestConfig") -> duckdb.DuckDBPyRelation:
    result = database.sql(config.query)
    if result is None:
        raise SlipwayError("ingest.query must be one SELECT")
    names = [column.lower() for column in result.columns]  # as DuckDB compares them
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SlipwayError(f"ingest.query gives two columns named {', '.join(twice)}; rename one")
    wanted = [c for c in (config.time, *config.key, config.label, config.weight) if c]
    if missing := [c for c in wanted if c not in result.columns]:
        raise SlipwayError(
            f"ingest.query gives no column {', '.join(missing)}; it gives:"
            f" {', '.join(result.columns)}"
        )
    return result


def is_unique(database: duckdb.DuckDBPyConnection, key: Sequence[str], kept: str) -> bool:
    """Tell whether there are kept rows, each with its own key."""
    columns = ", ".join(map(quoted, key))
    counted = (
        f"SELECT count(*), max(rows) FROM (SELECT count(*) AS rows FROM {kept} GROUP BY {columns})"
    )
    [(_, most)] = database.execute(counted).fetchall()
    return bool(most == 1)


def _require_unique(database: duckdb.DuckDBPyConnection, key: Sequence[str]) -> None:
    """Refuse a key that several rows share: it would name none of them."""
    columns = ", ".join(map(quoted, key))
    shared = database.execute(
        f"SELECT {columns}, count(*) AS rows FROM {KEPT} GROUP BY {columns} HAVING count(*) > 1"
        f" ORDER BY {columns}"
    ).fetchall()
    if shared:
        [*values, rows] = shared[0]
        example = ", ".join(f"{name} = {value}" for name, value in zip(key, values, strict=True))
        raise SlipwayError(
            f"ingest.key ({', '.join(key)}) is not unique: {len(shared):,} of its values name"
            f" several rows, such as {example} ({rows:,} rows); add the column that tells them"
            " apart, or keep one of them in ingest.query"
        )


def _compare(database: duckdb.DuckDBPyConnection, against: _Against) -> Difference:
    """Compare column by column."""
    result = _select(database, against.config)
    wanted = _wanted(database, against)
    there = [column for column in wanted if column in result.columns]
    types = dict(zip(result.columns, map(str, result.types), strict=True))
    typical = _typical_sizes(database, against.kept, [c for c in there if types[c] in ROUNDED])
    differs = ", ".join(
        f"count_if(kept.there AND {_differs(c, types[c], typical.get(c, 0.0))})" for c in there
    )
    columns = ", ".join(map(quoted, dict.fromkeys([*against.config.key, *there])))
    rows, common, *counts = _joined(result, against, columns, [differs] if there else [])
    differing = [column for column, count in zip(there, counts, strict=True) if count]
    gone = [column for column in wanted if column not in there]
    kept = _count(database, against)
    return Difference(kept, rows, common, tuple(sorted([*differing, *gone])))


def _differs(column: str, kind: str, typical: float) -> str:
    """Write whether two values differ; two floats by more than the order of a sum makes.

    The order follows DuckDB's plan, and that follows how many rows it expects.
    """
    kept, now = f"kept.{quoted(column)}", f"now.{quoted(column)}"
    other = f"{kept} IS DISTINCT FROM {now}"
    if kind not in ROUNDED:
        return other
    size = f"greatest(abs({kept}), abs({now}), {typical!r})"
    near = f"coalesce(abs({kept} - {now}) <= {ROUNDED[kind]} * {size}, false)"
    return f"({other} AND NOT (isfinite({kept}) AND isfinite({now}) AND {near}))"


def _typical_sizes(
    database: duckdb.DuckDBPyConnection, kept: str, columns: Sequence[str]
) -> dict[str, float]:
    """Return the median size of what each column holds."""
    if not columns:
        return {}
    medians = ", ".join(
        f"coalesce(median(abs({quoted(c)})) FILTER (isfinite({quoted(c)})), 0)" for c in columns
    )
    [found] = database.execute(f"SELECT {medians} FROM {kept}").fetchall()
    return {column: float(size) for column, size in zip(columns, found, strict=True)}


def _compare_hashes(database: duckdb.DuckDBPyConnection, against: _Against) -> Difference:
    """Compare a hash of each row: names all columns where any differs."""
    result = _select(database, against.config)
    wanted = _wanted(database, against)
    kept = _count(database, against)
    if set(wanted) - set(result.columns):
        return Difference(kept, 0, 0, tuple(wanted))
    values = ", ".join(map(quoted, wanted)) or "0"
    columns = ", ".join([*map(quoted, against.config.key), f'hash({values}) AS "the values"'])
    differs = 'count_if(kept."the values" <> now."the values")'
    rows, common, different = _joined(result, against, columns, [differs])
    return Difference(kept, rows, common, tuple(wanted) if different else ())


def _joined(
    result: duckdb.DuckDBPyRelation, against: _Against, columns: str, counted: Sequence[str]
) -> list[int]:
    """Count the result's rows, those whose key was kept, and what else is counted over these."""
    same_key = " AND ".join(
        f"kept.{quoted(c)} IS NOT DISTINCT FROM now.{quoted(c)}" for c in against.config.key
    )
    counts = result.query(
        "the result",
        f"SELECT {', '.join(['count_if(now.asked)', 'count(kept.there)', *counted])}"
        f' FROM (SELECT {columns}, {against.asked()} AS asked FROM "the result") AS now'
        f" LEFT JOIN (SELECT {columns}, true AS there FROM {against.kept}"
        f" WHERE {against.asked()}) AS kept ON {same_key}",
    )
    assert counts is not None, "a SELECT gives a relation"
    [found] = counts.fetchall()
    return [int(count or 0) for count in found]  # count_if of no rows is missing


def _wanted(database: duckdb.DuckDBPyConnection, against: _Against) -> list[str]:
    return [c for c in database.table(against.kept).columns if c not in against.left_out]


def _count(database: duckdb.DuckDBPyConnection, against: _Against) -> int:
    counted = f"SELECT count(*) FROM {against.kept} WHERE {against.asked()}"
    [(rows,)] = database.execute(counted).fetchall()
    return int(rows)


def _sum_of_rows(rows: duckdb.DuckDBPyRelation) -> tuple[int, int]:
    """Count the rows and add up a hash of each: of a hash, as DuckDB's of several is an xor."""
    values = ", ".join(map(quoted, rows.columns))
    counted = rows.query("the rows", f'SELECT count(*), sum(hash(hash({values}))) FROM "the rows"')
    assert counted is not None, "a SELECT gives a relation"
    [(count, total)] = counted.fetchall()
    return int(count), int(total or 0)


def _words(query: str) -> list[str]:
    """Split a query into its words, without comments and texts in quotes."""
    text = query.encode()
    tokens = duckdb.tokenize(query)
    ends = [*(offset for offset, _ in tokens[1:]), len(text)]
    left_out = (duckdb.token_type.comment, duckdb.token_type.string_const)
    return [
        "''" if kind in left_out else text[start:end].decode().strip()
        for (start, kind), end in zip(tokens, ends, strict=True)
        if kind != duckdb.token_type.comment
    ]


def _has_seed(words: Sequence[str]) -> bool:
    """Tell whether a sample says its seed: `REPEATABLE (7)`, or `(bernoulli, 7)`."""
    lower = [word.lower() for word in words]
    methods = ("bernoulli", "system", "reservoir")
    return "repeatable" in lower or any(
        word in methods and after == "," for word, after in pairwise(lower)
    )


def _arguments(words: Sequence[str]) -> int:
    """Count the arguments of a call, from its opening bracket on."""
    depth, count = 0, 1
    for word in words:
        depth += word in "([{"
        depth -= word in ")]}"
        if depth == 0:
            break
        count += depth == 1 and word == ","
    return count
