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
from urllib.parse import unquote

import duckdb

from slipway.errors import SlipwayError
from tasks.reading import delimited, hints, parquet, rows
from tasks.reading.casts import from_text
from tasks.reading.dialect import Dialect, dialect_of
from tasks.reading.encodings import as_utf8, find_undecodable
from tasks.reading.failures import Fault
from tasks.reading.formats import FORMATS
from tasks.reading.packing import PlainFile, unpack
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
class Loaded:
    """What a source turned out to hold."""

    rows: int
    stored: dict[str, str]
    """Every column of its files, with its type where they say one."""


@dataclass(frozen=True)
class _Opened:
    """A file, as it can be read: UTF-8, at a path without characters that mean something."""

    file: PlainFile
    path: Path
    where: str
    dialect: Dialect
    partitions: dict[str, str]
    """Columns that its folders name, such as `year=2024`."""


def load(
    database: duckdb.DuckDBPyConnection, name: str, source: "Source", files: Sequence[PlainFile]
) -> Loaded:
    """Make the table of a source of its files, packed or not."""
    database.execute("SET TimeZone = 'UTC'")
    columns = ", ".join(f"{quoted(c)} {duckdb_type(kind)}" for c, kind in source.columns.items())
    database.execute(f"CREATE TEMP TABLE {quoted(name)} ({columns})")
    loaded, first = 0, None
    with TemporaryDirectory(prefix="slipway-") as folder:
        for opened in _opened(name, source, files, Path(folder)):
            count, stored = _load_file(database, name, source, opened)
            first = first or (opened, stored)
            _require_same(opened, stored, *first)
            loaded += count
    where = f"source {name!r} ({source.url})"
    if loaded == 0:
        raise SlipwayError(f"{where} has no rows: the file names its columns and ends there")
    if first and FORMATS[first[0].file.suffix] == "json":
        _require_values(database, name, source, where)
    return Loaded(loaded, first[1] if first else {})


def _opened(
    name: str, source: "Source", files: Sequence[PlainFile], folder: Path
) -> Iterator[_Opened]:
    """Unpack, decode and link each file below a folder; no more than one file is there at once."""
    formats: set[str] = set()
    for packed in files:
        with TemporaryDirectory(dir=folder) as own:
            where = _where(name, source, packed)
            for number, file in enumerate(unpack(packed, where, _made(Path(own) / "unpacked"))):
                where = _where(name, source, file)
                formats.add(FORMATS[file.suffix])
                if len(formats) > 1:
                    raise SlipwayError(
                        f"{where}: {' and '.join(sorted(formats))} in one source; a glob such as"
                        " `*.csv` names files of one format"
                    )
                yield _open(file, where, source, _made(Path(own) / f"{number}"))


def _where(name: str, source: "Source", file: PlainFile) -> str:
    return f"source {name!r} ({source.url}){f', {file.label}' if file.label else ''}"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _open(file: PlainFile, where: str, source: "Source", folder: Path) -> _Opened:
    if file.path.stat().st_size == 0:
        raise SlipwayError(f"{where}: the file is empty (0 bytes)")
    dialect = dialect_of(source, file.suffix)
    plain = file.path
    if FORMATS[file.suffix] != "parquet":
        plain = as_utf8(plain, dialect.encoding, where, folder / "utf8")
    # DuckDB takes *, ? and [ in a path for a glob
    link = folder / "table"
    link.symlink_to(plain.absolute())
    return _Opened(file, link, where, dialect, _partitions(file.inside))


def _partitions(inside: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in inside.split("/")[:-1])
    return {unquote(key): unquote(value) for key, equals, value in pairs if key and equals}


def _load_file(
    database: duckdb.DuckDBPyConnection, name: str, source: "Source", opened: _Opened
) -> tuple[int, dict[str, str]]:
    with _told(opened):
        scan = _scan(database, source, opened, opened.path)
        try:
            return _insert(database, name, scan), scan.stored
        except duckdb.Error as error:
            if UNREADABLE in str(error):
                _explain_value(database, source, opened, scan)
            if FORMATS[opened.file.suffix] == "json":
                raise rows.explain(str(error)) from None
            if FORMATS[opened.file.suffix] == "parquet":
                raise Fault(f"truncated or damaged: {_one_line(error)}") from None
        return _load_otherwise(database, name, source, opened)


def _load_otherwise(
    database: duckdb.DuckDBPyConnection, name: str, source: "Source", opened: _Opened
) -> tuple[int, dict[str, str]]:
    """Read delimited text that DuckDB cannot read in parallel, or not at all as it is.

    Quotes and line ends in fields can be so that no part of the file can be read by itself.
    """
    scan = _scan(database, source, opened, opened.path, parallel=False)
    for again in (False, True):
        try:
            return _insert(database, name, scan), scan.stored
        except duckdb.Error as error:
            if UNREADABLE in str(error):
                _explain_value(database, source, opened, scan)
            if undecodable := find_undecodable(opened.path):
                raise Fault(undecodable[1], undecodable[0]) from None
            if again:
                raise Fault(_one_line(error)) from None
        header = delimited.read_header(opened.path, _own(source, opened), opened.dialect)
        plain = opened.path.with_name("rewritten")
        delimited.rewrite(opened.path, header, opened.dialect, plain)
        scan = _scan(database, source, opened, plain, parallel=False)
    raise AssertionError("the last try returns or raises")


@contextmanager
def _told(opened: _Opened) -> Iterator[None]:
    """Name the file of what is wrong with it."""
    try:
        yield
    except Fault as fault:
        raise SlipwayError(f"{opened.where}{fault}") from None


def _scan(
    database: duckdb.DuckDBPyConnection,
    source: "Source",
    opened: _Opened,
    path: Path,
    *,
    parallel: bool = True,
) -> Scan:
    own = _own(source, opened)
    match FORMATS[opened.file.suffix]:
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


def _own(source: "Source", opened: _Opened) -> "Source":
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
    database: duckdb.DuckDBPyConnection, source: "Source", opened: _Opened, scan: Scan
) -> None:
    """Say which value stopped the reading: the first one of the file."""
    [found] = database.execute(scan.first_unreadable).fetchall()
    row, n = int(found[0]), len(scan.cells)
    raws, bad = found[1 : n + 1], found[n + 1 :]
    cell, value = next((c, v) for c, v, b in zip(scan.cells, raws, bad, strict=True) if b)
    line = _line(source, opened, row)
    shown = value if len(value) <= 60 else f"{value[:60]}..."
    said = "is an object or a list, no string" if cell.kind == "string" else f"is no {cell.kind}"
    hint = ""
    if cell.kind != "string":
        hint = hints.of_value(value, cell.kind, source.format_of(cell.name), opened.dialect)
    raise Fault(f"row {row}, column {cell.name!r}: {shown!r} {said}{hint}", line)


def _line(source: "Source", opened: _Opened, row: int) -> int | None:
    if FORMATS[opened.file.suffix] != "csv" or row > LINES_COUNTED_MAX:
        return None
    header = delimited.read_header(opened.path, _own(source, opened), opened.dialect)
    return delimited.line_of(opened.path, opened.dialect, header.above, row)


def _require_same(
    opened: _Opened, stored: dict[str, str], first: _Opened, expected: dict[str, str]
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
