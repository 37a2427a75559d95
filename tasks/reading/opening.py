"""Open the files of a source one by one: unpacked, in UTF-8, at a path that means nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote

from slipway.errors import SlipwayError
from tasks.reading.dialect import Dialect, dialect_of
from tasks.reading.encodings import as_utf8
from tasks.reading.formats import FORMATS
from tasks.reading.packing import PlainFile, unpack

if TYPE_CHECKING:
    from slipway.config import Source


@dataclass(frozen=True)
class OpenedFile:
    """A file, as it can be read: UTF-8, at a path without characters that mean something."""

    file: PlainFile
    path: Path
    where: str
    dialect: Dialect
    partitions: dict[str, str]
    """Columns that its folders name, such as `year=2024`."""

    @property
    def format_(self) -> str:
        """Which reader it is for."""
        return FORMATS[self.file.suffix]


def open_files(
    name: str, source: "Source", files: Sequence[PlainFile], folder: Path
) -> Iterator[OpenedFile]:
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


def _open(file: PlainFile, where: str, source: "Source", folder: Path) -> OpenedFile:
    if file.path.stat().st_size == 0:
        raise SlipwayError(f"{where}: the file is empty (0 bytes)")
    dialect = dialect_of(source, file.suffix)
    plain = file.path
    if FORMATS[file.suffix] != "parquet":
        plain = as_utf8(plain, dialect.encoding, where, folder / "utf8")
    # DuckDB takes *, ? and [ in a path for a glob
    link = folder / "table"
    link.symlink_to(plain.absolute())
    return OpenedFile(file, link, where, dialect, partitions=_partitions(file.inside))


def _partitions(inside: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in inside.split("/")[:-1])
    return {unquote(key): unquote(value) for key, equals, value in pairs if key and equals}
