"""Unpack what sources are packed in, to plain files: DuckDB reads these in parallel."""

import bz2
import gzip
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from slipway.errors import SlipwayError
from tasks.reading.formats import FORMATS, KNOWN, PACKED, is_hidden, suffix_of

DAMAGED = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, OSError)
"""What reading a truncated or damaged archive raises."""

BEGINS = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".zst": b"\x28\xb5\x2f\xfd", ".zip": b"PK"}

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class PlainFile:
    """A table in a local file, packed in nothing."""

    label: str
    """Which file of the source it is; "" where the source is no other."""
    name: str
    """Whose ending says the format."""
    path: Path
    inside: str = ""
    """Its place below the source's folder, which may name the values of columns: `year=2024/`."""

    @property
    def suffix(self) -> str:
        """What says its format."""
        return suffix_of(self.name)


def unpack(file: PlainFile, where: str, folder: Path) -> Iterator[PlainFile]:
    """Yield the tables in a file, unpacked below a folder; a plain file is itself."""
    if file.suffix not in PACKED:
        if file.suffix not in FORMATS:
            raise SlipwayError(f"{where}: unknown format {file.suffix!r} of {file.name!r}; {KNOWN}")
        yield file
        return
    _look_at_beginning(file, where)
    try:
        if file.suffix == ".zip":
            yield from _members(file, where, folder)
            return
        target = folder / f"{len(list(folder.iterdir()))}.unpacked"
        with _opened(file) as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain, BLOCK_BYTES)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the file system, such as a full disk
        raise SlipwayError(f"{where} is truncated or damaged: {error}") from None
    inner = PlainFile(file.label, file.name[: -len(file.suffix)], target, file.inside)
    yield from unpack(inner, where, folder)


def _opened(file: PlainFile) -> AbstractContextManager[Any]:
    match file.suffix:
        case ".gz":
            return gzip.open(file.path)
        case ".bz2":
            return bz2.open(file.path)
    return pa.CompressedInputStream(pa.OSFile(str(file.path)), "zstd")  # type: ignore[no-any-return]


def _look_at_beginning(file: PlainFile, where: str) -> None:
    """Refuse what is no archive by what it is: a web page in the place of a file, for one."""
    with file.path.open("rb") as opened:
        first = opened.read(512)
    if not first:
        raise SlipwayError(f"{where}: the file is empty (0 bytes)")
    if not first.startswith(BEGINS[file.suffix]):
        raise SlipwayError(
            f"{where} is no {file.suffix} archive, whatever its name says{looks_like(first)};"
            " truncated or damaged, or fetched from the wrong place"
        )


def looks_like(first: bytes) -> str:
    """Say what the first bytes of a file are those of, where it is well known."""
    begin = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if begin.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "; it looks like a web page: a sign-in or an error, perhaps"
    known = {
        b"pk\x03\x04": "a .zip archive",
        b"\x1f\x8b": "a .gz archive",
        b"bzh": "a .bz2 archive",
        b"\x28\xb5\x2f\xfd": "a .zst archive",
        b"par1": "a .parquet file",
        b"\xd0\xcf\x11\xe0": "an old Excel workbook",
        b"version https://git-lfs": "a Git LFS pointer; `git lfs pull` gets the file",
    }
    for start, what in known.items():
        if begin.startswith(start):
            return f"; it looks like {what}"
    return ""


def _members(file: PlainFile, where: str, folder: Path) -> Iterator[PlainFile]:
    """Unpack the tables of a zip in the order of their names."""
    with zipfile.ZipFile(file.path) as archive:
        members = sorted(
            (m for m in archive.infolist() if not m.is_dir() and not is_hidden(m.filename)),
            key=lambda member: member.filename,
        )
        if not members:
            raise SlipwayError(f"{where}: the zip holds no file; {KNOWN}")
        for member in members:
            label = "/".join(filter(None, [file.label, member.filename]))
            label = label if len(members) > 1 else file.label
            target = folder / f"{len(list(folder.iterdir()))}.unpacked"
            with _member(archive, member, where) as packed, target.open("wb") as plain:
                shutil.copyfileobj(packed, plain, BLOCK_BYTES)
            inside = f"{file.inside}/{member.filename}" if file.inside else member.filename
            yield from unpack(PlainFile(label, member.filename, target, inside), where, folder)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> IO[bytes]:
    if member.flag_bits & 1:
        raise SlipwayError(
            f"{where}: {member.filename!r} is locked with a password; unpack it, and name the"
            " file without one"
        )
    try:
        return archive.open(member)
    except NotImplementedError:
        raise SlipwayError(
            f"{where}: {member.filename!r} is packed by a method (number {member.compress_type})"
            " that Python cannot unpack, such as Deflate64; pack it again as .zip or .gz"
        ) from None
