"""Small files, and what is read of them."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from slipway.config import Source
from tasks.reading.table import load
from tasks.sources import open_pinned, read_pins, refresh_pin

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Folder:
    """Where files are written and read."""

    root: Path

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file, and the folders above it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def read(self, url: Path | str, columns: dict[str, str], **dialect: Any) -> Rows:
        """Read a source as ingest does."""
        source = Source(url=str(url), columns=columns, known_later=[], **dialect)
        refresh_pin(self.root / "pins", "p", {"sales": source})
        pin = read_pins(self.root / "pins/data/p/sources.lock")["sales"]
        with duckdb.connect() as database:
            with open_pinned("sales", source.url, pin) as files:
                load(database, "sales", source, files)
            return database.sql('FROM "sales"').fetchall()

    def rows_of(self, name: str, content: str | bytes, columns: dict[str, str], **d: Any) -> Rows:
        """Write a file and read it."""
        return self.read(self.write(name, content), columns, **d)

    def clear(self, name: str) -> None:
        """Remove a folder."""
        shutil.rmtree(self.root / name)
