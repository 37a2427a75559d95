"""Load a source into a table of DuckDB: its files one after the other, in the order of their names.

Every value is what its column is declared to be, or nothing is loaded and a sentence says which
file, line and column stopped it, and what to write.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import duckdb

from slipway.errors import SlipwayError
from tasks.reading import delimited, hints, parquet, rows
from tasks.reading.casts import from_text
from tasks.reading.dialect import Dialect
from tasks.reading.failures import Fault
from tasks.reading.opening import OpenedFile, open_files
from tasks.reading.packing import PlainFile
from tasks.reading.scan import UNREADABLE, Cell, Scan
from tasks.reading.sql import quoted, text
from tasks.reading.types import duckdb_type

if TYPE_CHECKING:
    from slipway.config import Source

LINES_COUNTED_MAX = 2_000_000
"""Beyond this many rows only the row is named: its line takes Python's parser too long."""

NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""What Hive and Spark call the folder of the rows without a value."""


@dataclass(frozen=True)
class LoadedSource:
    """What a source turned out to hold."""

    rows: int
    stored: dict[str, str]
    """Every column of its files, with its type where they say one."""


def load(
    database: duckdb.DuckDBPyConnection, name: str, source: "Source", files: Sequence[PlainFile]
) -> LoadedSource:
    """Make the table of a source of its files, packed or not."""
    database.execute("SET TimeZone = 'UTC'")
    columns = ", ".join(f"{quoted(c)} {duckdb_type(kind)}" for c, kind in source.columns.items())
    database.execute(f"CREATE TEMP TABLE {quoted(name)} ({columns})")
    loaded, first = 0, None
    with TemporaryDirectory(prefix="slipway-") as folder:
        for opened in open_files(name, source, files, Path(folder)):
            count, stored = _load_file(database, name, source, opened)
            first = first or (opened, stored)
            _require_same(opened, stored, *first)
            loaded += count
    where = f"source {name!r} ({source.url})"
    if loaded == 0:
        raise SlipwayError(f"{where} has no rows: the file names its columns and ends there")
    if first and first[0].format_ == "json":
        _require_values(database, name, source, where)
    return LoadedSource(loaded, first[1] if first else {})


def _load_file(
    database: duckdb.DuckDBPyConnection, name: str, source: "Source", opened: OpenedFile
) -> tuple[int, dict[str, str]]:
    with _told(opened):
        scan = _scan(database, source, opened, opened.path)
        try:
            return _insert(database, name, scan), scan.stored
        except duckdb.Error as error:
            if UNREADABLE in str(error):
                _explain_value(database, source, opened, scan)
            match opened.format_:
                case "json":
                    raise rows.explain(str(error)) from None
                case "parquet":
                    raise Fault(f"truncated or damaged: {_one_line(error)}") from None
        return _load_otherwise(database, name, source, opened)


def _load_otherwise(
    database: duckdb.DuckDBPyConnection, name: str, source: "Source", opened: OpenedFile
) -> tuple[int, dict[str, str]]:
    """Read delimited text that DuckDB cannot read in pieces, or not at all as it is.

    Quotes and line ends in fields can be so that no piece can be read by itself. Read as a whole
    DuckDB leaves out, in silence, what follows a quote that nothing closes: Python's parser has
    the last word on what is broken, and on the number of rows.
    """
    header = delimited.read_header(opened.path, _own(source, opened), opened.dialect)
    expected = delimited.check(opened.path, header, opened.dialect)
    rewritten = opened.path.with_name("rewritten")
    for path in (opened.path, rewritten):
        if path is rewritten:
            delimited.check(opened.path, header, opened.dialect, target=rewritten)
        scan = _scan(database, source, opened, path, parallel=False)
        problem = f"{expected} rows, of which only a part can be read"
        database.begin()
        try:
            if _insert(database, name, scan) == expected:
                database.commit()
                return expected, scan.stored
        except duckdb.Error as error:
            problem = _one_line(error)
        database.rollback()
        if UNREADABLE in problem:
            _explain_value(database, source, opened, scan)
    raise Fault(problem)


@contextmanager
def _told(opened: OpenedFile) -> Iterator[None]:
    """Name the file of what is wrong with it."""
    try:
        yield
    except Fault as fault:
        raise SlipwayError(f"{opened.where}{fault}") from None


def _scan(
    database: duckdb.DuckDBPyConnection,
    source: "Source",
    opened: OpenedFile,
    path: Path,
    *,
    parallel: bool = True,
) -> Scan:
    own = _own(source, opened)
    match opened.format_:
        case "csv":
            scan = delimited.scan(path, own, opened.dialect, parallel=parallel)
        case "json":
            scan = rows.scan(path, own, opened.dialect, suffix=opened.file.suffix)
        case _:
            scan = parquet.scan(database, path, own, opened.dialect)
    cells = {cell.name: cell for cell in scan.cells}
    for name, value in opened.partitions.items():
        if name in source.columns:
            cells[name] = _partition(name, value, source, opened.dialect)
    stored = {**scan.stored, **dict.fromkeys(opened.partitions, "")}
    return Scan(scan.table, tuple(cells[name] for name in source.columns), stored)


def _own(source: "Source", opened: OpenedFile) -> "Source":
    """Leave out what the file itself does not hold, since its folders say it."""
    if not {*opened.partitions} & {*source.columns}:
        return source
    kept = {c: kind for c, kind in source.columns.items() if c not in opened.partitions}
    return source.model_copy(update={"columns": kept})


def _partition(name: str, value: str, source: "Source", dialect: Dialect) -> Cell:
    kind = source.columns[name]
    raw = "CAST(NULL AS VARCHAR)" if value in (NO_PARTITION, *dialect.nulls) else text(value)
    return Cell(name, kind, raw, from_text(raw, kind, dialect, source.format_of(name)))


def _insert(database: duckdb.DuckDBPyConnection, name: str, scan: Scan) -> int:
    [(count,)] = database.execute(f"INSERT INTO {quoted(name)} {scan.select}").fetchall()
    return int(count)


def _explain_value(
    database: duckdb.DuckDBPyConnection, source: "Source", opened: OpenedFile, scan: Scan
) -> None:
    """Say which value stopped the reading: the first one of the file."""
    [found] = database.execute(scan.first_unreadable).fetchall()
    row, n = int(found[0]), len(scan.cells)
    raws, bad = found[1 : n + 1], found[n + 1 :]
    cell, value = next((c, v) for c, v, b in zip(scan.cells, raws, bad, strict=True) if b)
    line = _line(source, opened, row)
    shown = value if len(value) <= 60 else f"{value[:60]}..."
    hint = hints.of_value(value, cell.kind, source.format_of(cell.name), opened.dialect)
    raise Fault(f"row {row}, column {cell.name!r}: {shown!r} is no {cell.kind}{hint}", line)


def _line(source: "Source", opened: OpenedFile, row: int) -> int | None:
    if opened.format_ != "csv" or row > LINES_COUNTED_MAX:
        return None
    header = delimited.read_header(opened.path, _own(source, opened), opened.dialect)
    return delimited.line_of(opened.path, opened.dialect, header.above, row)


def _require_same(
    opened: OpenedFile, stored: dict[str, str], first: OpenedFile, expected: dict[str, str]
) -> None:
    """Refuse a file whose columns are others than those of the first file."""
    more, fewer = (
        ", ".join(map(repr, sorted(a.keys() - b.keys())))
        for a, b in ((stored, expected), (expected, stored))
    )
    if more or fewer:
        said = "; ".join(
            f"{what} {names}" for what, names in (("has", more), ("lacks", fewer)) if names
        )
        raise SlipwayError(
            f"{opened.where}: other columns than {first.file.label}: it {said}; the files of one"
            " source have the same columns"
        )


def _require_values(
    database: duckdb.DuckDBPyConnection, name: str, source: "Source", where: str
) -> None:
    """Refuse a column that no row of a JSON file has: a key that is not there has no value."""
    counts = ", ".join(f"count({quoted(c)})" for c in source.columns)
    [found] = database.execute(f"SELECT {counts} FROM {quoted(name)}").fetchall()
    empty = [c for c, count in zip(source.columns, found, strict=True) if not count]
    if empty:
        raise SlipwayError(f"{where}: no row has a value for {', '.join(map(repr, empty))}")


def _one_line(error: Exception) -> str:
    """Put an error of DuckDB on one line, without what it says of its own options and files."""
    said = re.split(r"\n\s*Possible |\n\s*file = ", str(error))[0]
    return " ".join(re.sub(r"['\"]?/\S*slipway-\S*['\"]?", "the file", said).split())
