"""Join the sources into one typed table with a single SQL query, run by DuckDB over Arrow.

The query runs more than once: again as it is, for it must repeat, and with what is known only
later changed. A column that differs then depends on the future; `validate` stops it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from slipway.errors import SlipwayError
from slipway.problem import Target
from tasks import query
from tasks.leaks import find_leaks
from tasks.sources import DAMAGED, Pin, open_pinned, read_pins, unpacked
from tasks.tables import TABLE, TableFacts, time_range, write_facts

if TYPE_CHECKING:
    from slipway.config import IngestConfig, Source

ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "datetime": pa.timestamp("us"),
}
NULLS = ["", "NA", "NaN", "NULL", "null"]
BATCH_ROWS = 1 << 16


def run(config: "IngestConfig", *, sources: Path, raw: Path) -> None:
    """Write the joined table and the facts about it."""
    pins = read_pins(sources)
    with duckdb.connect() as database:
        counts = {
            name: _load(database, name, source, pins.get(name))
            for name, source in config.sources.items()
        }
        # the sources are in: from here on the query reads nothing but them
        database.execute("SET enable_external_access = false").fetchall()
        if query.keep(database, config) == 0:
            raise SlipwayError(
                "ingest.query gave no rows; try it on the sources, a join or filter drops all"
            )
        _write(query.kept_in_order(database, config), raw / TABLE)
        query.require_repeatable(database, config)
        leaks = find_leaks(database, config)
    table = pq.ParquetFile(raw / TABLE)
    write_facts(raw, _facts(config, table, counts, pins=pins, leaks=leaks))


def _load(database: duckdb.DuckDBPyConnection, name: str, source: "Source", pin: Pin | None) -> int:
    """Stream one source into a DuckDB table, which may be larger than memory."""
    schema = pa.schema([(column, ARROW_TYPES[kind]) for column, kind in source.columns.items()])
    with (
        open_pinned(name, source.url, pin) as packed,
        unpacked(name, source.url, packed) as (file, suffix),
    ):
        failures: list[Exception] = []
        try:
            batches = _remember(_without_zone(_read(file, suffix, schema), schema), failures)
            reader = pa.RecordBatchReader.from_batches(_naive(schema), batches)
            database.register("incoming", reader)
            created = database.execute(f'CREATE TEMP TABLE "{name}" AS SELECT * FROM incoming')
            [(count,)] = created.fetchall()
            database.unregister("incoming")
        except (pa.ArrowException, KeyError, duckdb.Error) as error:
            cause = failures[0] if failures else error
            if isinstance(cause, DAMAGED):
                raise cause from None  # `unpacked` says what that means
            raise SlipwayError(f"source {name!r} ({source.url}): {query.one_line(cause)}") from None
    return int(count)


def _remember(
    batches: Iterator[pa.RecordBatch], failures: list[Exception]
) -> Iterator[pa.RecordBatch]:
    """Keep what really went wrong: DuckDB reports it as text, with a traceback inside."""
    try:
        yield from batches
    except Exception as error:
        failures.append(error)
        raise


def _read(file: BinaryIO, suffix: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Read a table of a known format as typed batches; a missing column is an error."""
    match suffix:
        case ".csv":
            yield from pyarrow.csv.open_csv(
                file,
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict(zip(schema.names, schema.types, strict=True)),
                    include_columns=schema.names,
                    null_values=NULLS,
                    strings_can_be_null=True,
                ),
            )
        case ".parquet":
            table = pq.ParquetFile(file)
            if missing := sorted(set(schema.names) - set(table.schema_arrow.names)):
                raise KeyError(f"no column {', '.join(missing)}")
            for batch in table.iter_batches(BATCH_ROWS, columns=schema.names):
                yield batch.select(schema.names).cast(schema)
        case ".jsonl":
            yield from _read_json_lines(file, schema)
        case _:
            raise KeyError(f"unknown format {suffix!r}; known: .csv .parquet .jsonl")


def _read_json_lines(file: BinaryIO, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Read JSON lines; a key that no line has is a missing column, not a column of nulls."""
    options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    empty = set(schema.names)
    for batch in pyarrow.json.open_json(file, parse_options=options):
        empty -= {name for name in empty if batch[name].null_count < batch.num_rows}
        yield batch.select(schema.names)
    if empty:
        raise KeyError(f"no line has a value for {', '.join(sorted(empty))}")


def _naive(schema: pa.Schema) -> pa.Schema:
    return pa.schema(
        [(f.name, pa.timestamp("us") if pa.types.is_timestamp(f.type) else f.type) for f in schema]
    )


def _without_zone(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Turn timestamps into plain UTC: DuckDB's zoned arithmetic depends on the session."""
    for batch in batches:
        yield batch.cast(_naive(schema))


def _write(result: duckdb.DuckDBPyRelation, path: Path) -> None:
    """Write a result in record batches."""
    try:
        reader = result.to_arrow_reader(BATCH_ROWS)
        with pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
    except duckdb.Error as error:
        raise SlipwayError(f"ingest.query: {query.one_line(error)}") from None


def _facts(
    config: "IngestConfig",
    table: pq.ParquetFile,
    counts: Mapping[str, int],
    pins: Mapping[str, Pin],
    leaks: list[str],
) -> TableFacts:
    target = config.target
    return TableFacts(
        key=config.key,
        time=config.time,
        target=Target(target.column, target.problem, tuple(target.classes)),
        weight=config.weight,
        rows=table.metadata.num_rows,
        schema={field.name: str(field.type) for field in table.schema_arrow},
        time_range=time_range(config.time, table.read([config.time] if config.time else [])),
        sources={
            name: {
                "url": pins[name].url,
                "sha256": pins[name].sha256,
                "size_bytes": pins[name].size_bytes,
                "rows": count,
            }
            for name, count in counts.items()
        },
        known_later=sorted({c for s in config.sources.values() for c in s.known_later}),
        leaks=leaks,
    )
