"""Read JSON: an object a line, or an array of them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.reading.casts import from_text
from tasks.reading.dialect import Dialect
from tasks.reading.failures import Fault
from tasks.reading.packing import looks_like
from tasks.reading.scan import Cell, Scan
from tasks.reading.sql import quoted, text, texts

if TYPE_CHECKING:
    from slipway.config import Source

ROW_BYTES_MAX = 1 << 25
"""DuckDB reads in pieces of twice as much, one for each thread."""

WHERE = re.compile(r"in (?:file \"[^\"]*\", )?(?:at byte \d+ )?(?:in )?(line|record/value) (\d+)")


def scan(path: Path, source: "Source", dialect: Dialect, *, suffix: str) -> Scan:
    """Say how to read a file, after a look at its first character."""
    columns = ", ".join(f"{text(name)}: 'JSON'" for name in source.columns)
    table = (
        f"read_json({text(str(path))}, format='{_layout(path, suffix)}',"
        f" maximum_object_size={ROW_BYTES_MAX}, columns={{{columns}}})"
    )
    return Scan(table, tuple(_cell(name, source, dialect) for name in source.columns))


def _cell(name: str, source: "Source", dialect: Dialect) -> Cell:
    x, kind = quoted(name), source.columns[name]
    raw = f"({x} ->> '$')"
    # the empty text is a text, and no value of any other type
    nulls = dialect.nulls if kind == "string" else ("", *dialect.nulls)
    if nulls:
        raw = f"(CASE WHEN {raw} NOT IN ({texts(nulls)}) THEN {raw} END)"
    plain = f"CASE WHEN json_type({x}) NOT IN ('OBJECT', 'ARRAY') THEN {raw} END"
    value = from_text(plain if kind == "string" else raw, kind, dialect, source.format_of(name))
    return Cell(name, kind, raw, value)


def _layout(path: Path, suffix: str) -> str:
    with path.open("rb") as file:
        first = file.read(4096).lstrip()
    if first.startswith(b"["):
        return "array"
    if first.startswith(b"{"):
        return "unstructured" if suffix == ".json" else "newline_delimited"
    raise Fault(f"neither an array of objects nor an object a line{looks_like(first)}", 1)


def explain(message: str) -> Fault:
    """Say what DuckDB says of a file that is no JSON, without the name that it knows it by."""
    found = WHERE.search(message)
    problem = re.sub(r'(Malformed JSON|JSON transform error) in file "[^"]*", ', "", message)
    problem = re.sub(r"^[\w ]+ Error: ", "", problem).split("\n")[0]
    problem = re.sub(r"\. Try .*", "", problem).rstrip(". ")
    problem = re.sub(r"^(at byte \d+ )?in (line|record/value) \d+: ", "", problem)
    if not found:
        return Fault(f"not readable as JSON: {problem}")
    if found[1] == "line":
        # what is broken is counted from 2 on
        return Fault(f"not readable as JSON: {problem}", int(found[2]) - ("Malformed" in message))
    number = int(found[2]) - ("Malformed" in message)
    return Fault(f"not readable as JSON, at object {number} of the array: {problem}")
