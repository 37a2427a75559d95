"""Read delimited text by DuckDB's parser, as text; what it cannot take, Python's parser judges."""

import csv
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from slipway.sections import suggest
from slipway.source import find_twins
from tasks.reading import hints
from tasks.reading.casts import from_text
from tasks.reading.dialect import Dialect
from tasks.reading.encodings import find_undecodable
from tasks.reading.failures import Fault
from tasks.reading.scan import Cell, Scan
from tasks.reading.sql import quoted, text, texts

if TYPE_CHECKING:
    from slipway.config import Source

LINE_BYTES_MAX = 1 << 24
"""DuckDB reads in pieces of twice as much, one for each thread."""

LOOKED_AT = 50
"""Lines in which a header is looked for that is not where it should be."""


@dataclass(frozen=True)
class Header:
    """The names of the columns, and how many lines are above them."""

    names: tuple[str, ...]
    above: int


def scan(path: Path, source: "Source", dialect: Dialect, *, parallel: bool = True) -> Scan:
    """Say how to read a file, after a look at its header."""
    header = read_header(path, source, dialect)
    places = {name: quoted(f"c{i}") for i, name in enumerate(header.names)}
    cells = []
    for name, kind in source.columns.items():
        x = places[name]
        raw = x if kind == "string" else f"nullif({x}, '')"
        cells.append(
            Cell(
                name=name,
                kind=kind,
                raw=raw,
                value=from_text(x, kind, dialect, source.format_of(name)),
                sure=kind == "string",
            )
        )
    stored = {name or f"column {i} (no name)": "" for i, name in enumerate(header.names, 1)}
    return Scan(_table(path, header, dialect, parallel=parallel), tuple(cells), stored)


def read_header(path: Path, source: "Source", dialect: Dialect) -> Header:
    """Return the first filled line below those to skip; refuse names that will not do."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            first = list(enumerate(islice(file, LOOKED_AT), 1))
            filled = next((n for n, line in first[dialect.skip_rows :] if line.strip()), None)
            file.seek(0)
            above = dialect.skip_rows if filled is None else filled - 1
            list(islice(file, above))
            names = next(_rows(file, dialect), [])
    except UnicodeDecodeError as error:
        line, problem = find_undecodable(path) or (None, str(error))
        raise Fault(problem, line) from None
    except csv.Error as error:
        raise Fault(f"the line of the columns' names cannot be read: {error}") from None
    if filled is None:
        raise Fault(f"there is no line{' left' if dialect.skip_rows else ''} to name the columns")
    _require(names, above + 1, source, dialect=dialect, first=first)
    return Header(tuple(names), above)


def _require(
    names: list[str], line: int, source: "Source", dialect: Dialect, first: list[tuple[int, str]]
) -> None:
    folded = {name.lower() for name in source.columns}
    if twins := find_twins(name for name in names if name.lower() in folded):
        raise Fault(
            f"columns that cannot be told apart: {twins}; rename one of them in the file", line
        )
    if missing := [name for name in source.columns if name not in names]:
        known = [name for name in names if name]
        near = [f"{name!r}{suggest(name, known)}" for name in missing]
        shown = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
        hint = hints.of_header(names, first, source.columns, dialect)
        raise Fault(f"no column {', '.join(near)}; the columns are: {shown}{hint}", line)


def _rows(file: Iterator[str], dialect: Dialect) -> Iterator[list[str]]:
    csv.field_size_limit(LINE_BYTES_MAX)  # its own is 128 KiB
    return csv.reader(
        file,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        strict=True,
    )


def _table(path: Path, header: Header, dialect: Dialect, *, parallel: bool) -> str:
    columns = ", ".join(f"{text(f'c{i}')}: 'VARCHAR'" for i in range(len(header.names)))
    return (
        f"read_csv({text(str(path))}, auto_detect=false, header=true, strict_mode=true,"
        f" skip={header.above}, delim={text(dialect.delimiter)}, quote={text(dialect.quote)},"
        f" escape={text(dialect.quote)}, nullstr=[{texts(['', *dialect.nulls])}],"
        f" max_line_size={LINE_BYTES_MAX}, parallel={str(parallel).lower()},"
        f" columns={{{columns}}})"
    )


def line_of(path: Path, dialect: Dialect, above: int, row: int) -> int | None:
    """Return the line that a row begins in, both counted from 1."""
    with path.open(encoding="utf-8", newline="") as file:
        list(islice(file, above))
        rows = _rows(file, dialect)
        next(rows, None)
        found, before = 0, int(rows.line_num)  # type: ignore[attr-defined]
        try:
            for cells in rows:
                found += bool(cells)
                if found == row:
                    return above + before + 1
                before = int(rows.line_num)  # type: ignore[attr-defined]
        except csv.Error:
            pass
    return None


def check(path: Path, header: Header, dialect: Dialect, target: Path | None = None) -> int:
    """Count the rows by Python's parser; refuse the first that is none.

    With a target they are written there with one kind of line end: DuckDB takes a file whose
    lines end in several ways for broken.
    """
    count = -1  # the columns' names
    with ExitStack() as files:
        out = None
        if target is not None:
            plain = files.enter_context(target.open("w", encoding="utf-8", newline=""))
            plain.writelines("\n" * header.above)
            out = _writer(plain, dialect)
        for cells in _checked(path, header, dialect):
            count += 1
            if out is not None:
                out.writerow(cells)
    return count


def _writer(file: TextIO, dialect: Dialect) -> Any:
    return csv.writer(
        file,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        lineterminator="\n",
    )


def _checked(path: Path, header: Header, dialect: Dialect) -> Iterator[list[str]]:
    """Give the rows that are not empty, the columns' names first."""
    width, line = len(header.names), 0
    with path.open(encoding="utf-8", newline="") as file:
        list(islice(file, header.above))
        rows = _rows(file, dialect)
        try:
            for cells in rows:
                if len(cells) > width and not any(cells[width:]):
                    del cells[width:]  # a delimiter at the end of the line
                if cells and len(cells) != width:
                    raise _ragged(cells, width, header.above + line + 1)
                if cells:
                    yield cells
                line = rows.line_num  # type: ignore[attr-defined]
        except csv.Error as error:
            raise Fault(_broken(error, dialect), header.above + line + 1) from None
        except UnicodeDecodeError as error:
            found = find_undecodable(path) or (None, str(error))
            raise Fault(found[1], found[0]) from None


def _ragged(cells: list[str], width: int, line: int) -> Fault:
    shown = " | ".join(cells)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
    count = f"{len(cells)} field{'s' if len(cells) != 1 else ''}"
    return Fault(
        f"{count}, expected {width}: {shown!r}; a file that ends early is truncated, and a title"
        " or a total is to be taken out of it (`skip_rows` leaves out lines above the columns'"
        " names)",
        line,
    )


def _broken(error: Exception, dialect: Dialect) -> str:
    return (
        f"{error}: a {dialect.quote} is opened and not closed as it should be; write"
        ' `quote: ""` if quotes mean nothing in this file, or the character that does'
    )
