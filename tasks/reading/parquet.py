"""Read Parquet, type by type."""

from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from slipway.sections import suggest
from slipway.source import find_twins
from tasks.reading.dialect import Dialect
from tasks.reading.failures import Fault
from tasks.reading.packing import looks_like
from tasks.reading.scan import Cell, Scan
from tasks.reading.sql import quoted, text
from tasks.reading.typed import from_typed, is_nested, raw_text

if TYPE_CHECKING:
    from slipway.config import Source


def scan(
    database: duckdb.DuckDBPyConnection, path: Path, source: "Source", dialect: Dialect
) -> Scan:
    """Say how to read a file, after a look at its schema."""
    schema = _schema(path)
    _require(schema, source)
    table = f"read_parquet({text(str(path))}, hive_partitioning=false)"
    described = database.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()
    types = {field.name: str(row[1]) for field, row in zip(schema, described, strict=True)}
    cells = tuple(
        _cell(name, types[name], schema.field(name).type, source=source, dialect=dialect)
        for name in source.columns
    )
    return Scan(table, cells, {field.name: str(field.type) for field in schema})


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        with path.open("rb") as file:
            first = file.read(512)
        said = " ".join(str(error).split())
        raise Fault(f"no Parquet file, truncated or damaged{looks_like(first)}: {said}") from None


def _require(schema: pa.Schema, source: "Source") -> None:
    names = list(schema.names)
    folded = {name.lower() for name in source.columns}
    if twins := find_twins(name for name in names if name.lower() in folded):
        raise Fault(f"columns that cannot be told apart: {twins}; rename one of them in the file")
    if missing := [name for name in source.columns if name not in names]:
        near = [f"{name!r}{suggest(name, names)}" for name in missing]
        shown = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
        raise Fault(f"no column {', '.join(near)}; the columns are: {shown}")


def _cell(
    name: str, stored: str, arrow: pa.DataType, *, source: "Source", dialect: Dialect
) -> Cell:
    kind, x = source.columns[name], quoted(name)
    if is_nested(stored):
        raise Fault(
            f"column {name!r} is nested ({arrow}), and a table of a query holds plain values; take"
            " what is needed of it out into columns of its own"
        )
    if pa.types.is_null(arrow):
        return Cell(name, kind, "NULL", "NULL", sure=True)
    if pa.types.is_decimal256(arrow) and kind != "float64":
        raise Fault(f"column {name!r} is {arrow}, of more than 38 digits: declare float64")
    read = from_typed(x, stored, kind, dialect=dialect, written=source.format_of(name))
    if read is None:
        raise Fault(f"column {name!r} is {arrow}, which is no {kind}{_instead(arrow, kind)}")
    value, sure = read
    return Cell(name, kind, raw_text(x, stored, kind, dialect), value, sure=sure)


def _instead(arrow: pa.DataType, kind: str) -> str:
    if pa.types.is_timestamp(arrow):
        return (
            "; it carries a time zone: declare timestamp"
            if arrow.tz
            else ("; it carries no time zone: declare datetime")
        )
    if pa.types.is_date(arrow):
        return "; declare date or datetime"
    if pa.types.is_integer(arrow) and kind in ("date", "datetime", "timestamp"):
        return "; write what it counts as `date_format`: epoch_s, epoch_ms, epoch_us or epoch_ns"
    return "; declare string, and CAST it in the query"
