"""Join the sources into one typed table with a single SQL query, run by DuckDB.

The query runs more than once: again as it is, for it must repeat, and with what is known only
later changed. A column that differs then depends on the future; `validate` stops it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow.parquet as pq

from slipway.errors import SlipwayError
from slipway.problem import Target
from tasks import query
from tasks.leaks import find_leaks
from tasks.reading.table import load
from tasks.sources import Pin, open_pinned, read_pins
from tasks.tables import TABLE, TableFacts, time_range, write_facts

if TYPE_CHECKING:
    from slipway.config import IngestConfig

BATCH_ROWS = 1 << 16


def run(config: "IngestConfig", *, sources: Path, raw: Path) -> None:
    """Write the joined table and the facts about it."""
    pins = read_pins(sources)
    with duckdb.connect() as database:
        counts = {}
        for name, source in config.sources.items():
            with open_pinned(name, source.url, pins.get(name)) as files:
                counts[name] = load(database, name, source, files).rows
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
