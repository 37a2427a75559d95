"""Run the pipeline's query so that it repeats, and compare what it gives now with what it gave.

Threads add floats in the order in which they happen to come: with DuckDB 2.0 on two threads
`avg` by group came out otherwise in its last bits for 908,725 of 1,000,000 rows, and `first`
for all. So what counts is always the result of one thread.
"""

from collections.abc import Iterator, Sequence
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

    rows: int
    """Rows of the result."""
    common: int
    """Those whose key the kept rows have too."""
    columns: tuple[str, ...]
    """Columns that differ in any common row, or are gone; the label only where it was asked for."""


def keep(database: duckdb.DuckDBPyConnection, config: "IngestConfig") -> int:
    """Run the query and keep its result; return how many rows it gave, each with its own key."""
    if names := chance_in(config.query, {c for s in config.sources.values() for c in s.columns}):
        raise SlipwayError(
            f"ingest.query uses {', '.join(names)}: it would give other values every time it"
            " runs; take the time from a column, and chance from hash(key)"
        )
    with one_thread(database):
        try:
            _select(database, config).create(KEPT)
        except duckdb.Error as error:
            raise SlipwayError(f"ingest.query: {one_line(error)}") from None
    if config.key:
        _require_unique(database, config.key)
    return count_kept(database)


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
    """Refuse a query that gives something else when it runs again on the same sources."""
    rows = count_kept(database)
    try:
        again = compare(database, config, wholly=True)
    except duckdb.Error as error:
        raise SlipwayError(f"ingest.query, run again: {one_line(error)}") from None
    if again == Difference(rows, rows, ()):
        return
    other = f"values in {', '.join(again.columns)}" if again.columns else "rows"
    raise SlipwayError(
        f"ingest.query gives other {other} when it runs twice on the same sources, so nothing"
        " made of it would repeat; order what LIMIT, first or a window takes from, by the key last"
    )


def compare(
    database: duckdb.DuckDBPyConnection, config: "IngestConfig", *, wholly: bool = False
) -> Difference:
    """Run the query on the sources as they are now and compare it with what was kept.

    `wholly` also compares labels, and which rows there are. All threads come first, as that is
    faster; what they find different counts only if one thread alone finds it too.
    """
    left_out = set() if wholly else {config.label}
    found, rows = _compare(database, config, left_out), count_kept(database)
    if found.columns or (wholly and not found.rows == found.common == rows):
        with one_thread(database):
            return _compare(database, config, left_out)
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


def _compare(
    database: duckdb.DuckDBPyConnection, config: "IngestConfig", left_out: set[str]
) -> Difference:
    result = _select(database, config)
    kept = [column for column in database.table(KEPT).columns if column not in left_out]
    there = [column for column in kept if column in result.columns]
    if not config.key:
        return _compare_as_bags(database, result, there)
    same_key = " AND ".join(
        f"kept.{quoted(column)} IS NOT DISTINCT FROM now.{quoted(column)}" for column in config.key
    )
    differs = ", ".join(
        f"count_if(kept.rowid IS NOT NULL"
        f" AND kept.{quoted(column)} IS DISTINCT FROM now.{quoted(column)})"
        for column in there
    )
    counted = result.query(
        "the result",
        f"SELECT count(*), count(kept.rowid), {differs}"
        f' FROM "the result" AS now LEFT JOIN {KEPT} AS kept ON {same_key}',
    )
    assert counted is not None, "a SELECT gives a relation"
    [(rows, common, *counts)] = counted.fetchall()
    differing = [column for column, count in zip(there, counts, strict=True) if count]
    gone = [column for column in kept if column not in there]
    return Difference(int(rows), int(common), tuple(sorted([*differing, *gone])))


def _compare_as_bags(
    database: duckdb.DuckDBPyConnection, result: duckdb.DuckDBPyRelation, columns: Sequence[str]
) -> Difference:
    """Compare rows that nothing names: each as often as before, whatever their order."""
    rows, kept = ", ".join(map(quoted, columns)), count_kept(database)
    counted = result.query(
        "the result",
        f'SELECT (SELECT count(*) FROM "the result"), count(*) FROM (SELECT {rows} FROM'
        f' "the result" EXCEPT ALL SELECT {rows} FROM {KEPT})',
    )
    assert counted is not None, "a SELECT gives a relation"
    [(now, new)] = counted.fetchall()
    same = int(now) - int(new)
    return Difference(int(now), same if same == kept else -1, ())


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
