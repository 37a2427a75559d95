"""Find the files that a URL names: one, those of a folder, or those that a glob matches."""

import importlib.metadata
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from slipway.errors import SlipwayError, Unavailable, may_pass
from tasks.reading.formats import KNOWN, base_name, is_hidden

GLOB = frozenset("*?[")

TELLING = ("size", "mtime", "ETag", "etag", "LastModified", "last_modified")
"""What file systems tell that changes when the bytes do."""


@dataclass(frozen=True)
class SourcePlace:
    """One file of a source, somewhere."""

    name: str
    """Below the folder or the glob's fixed part; "" where the URL names the file itself."""
    path: str
    fs: Any
    facts: Mapping[str, str]
    """What changes when its bytes do."""

    @property
    def local(self) -> bool:
        """Whether it is a file of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def file_name(self) -> str:
        """The name whose ending says the format."""
        return base_name(self.path)


def find_files(name: str, url: str) -> list[SourcePlace]:
    """Return the files of a source in the order of their names, none of them read."""
    with explained(name, url, "does not exist or cannot be reached"):
        fs, path = _locate(name, url)
        if _is_glob(fs, path):
            return _several(name, url, _globbed(fs, path))
        info = fs.info(path)
        if info.get("type") == "directory":
            return _several(name, url, _inside(fs, path))
        return [SourcePlace("", path, fs, _facts(fs, path, info))]


@contextmanager
def explained(name: str, url: str, what: str) -> Iterator[None]:
    """Say of a source what a file system says of a file; tell what may pass from what stays."""
    try:
        yield
    except SlipwayError:
        raise
    except Exception as error:
        if may_pass(error):
            raise Unavailable(f"source {name!r} ({url}) does not answer: {error}") from None
        if not isinstance(error, OSError | ValueError | ImportError):
            raise
        raise SlipwayError(f"source {name!r} ({url}) {what}: {error}") from None


def _locate(name: str, url: str) -> tuple[Any, str]:
    if not url.startswith("pkg://"):
        fs, path = fsspec.core.url_to_fs(url)
        if isinstance(fs, LocalFileSystem) and "%" in path and not os.path.lexists(path):
            path = unquote(path)  # as a file URL writes a space
        return fs, path
    package, _, inside = url.removeprefix("pkg://").partition("/")
    try:
        # importing a data package may run (or break) its code; its files are enough
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise SlipwayError(
            f"source {name!r} ({url}): no package {package!r} here; `pip install {package}`"
        ) from None
    return fsspec.filesystem("file"), str(distribution.locate_file(inside))


def _is_glob(fs: Any, path: str) -> bool:
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else {*fs.protocol}
    if not GLOB & {*path} or protocols & {"http", "https"}:
        return False
    return not (isinstance(fs, LocalFileSystem) and os.path.lexists(path))


def _globbed(fs: Any, path: str) -> Iterator[SourcePlace]:
    fixed = list(PurePosixPath(path).parts)
    root = PurePosixPath(*fixed[: next(i for i, part in enumerate(fixed) if GLOB & {*part})])
    for found, info in fs.glob(path, detail=True).items():
        if info.get("type") != "directory":
            yield _place(fs, found, info, root=str(root))


def _inside(fs: Any, path: str) -> Iterator[SourcePlace]:
    for found, info in fs.find(path, detail=True).items():
        yield _place(fs, found, info, root=path)


def _place(fs: Any, path: str, info: Mapping[str, Any], *, root: str) -> SourcePlace:
    inside = PurePosixPath(os.path.relpath("/" + path.lstrip("/"), "/" + root.lstrip("/")))
    return SourcePlace(str(inside), path, fs, _facts(fs, path, info))


def _several(name: str, url: str, found: Iterator[SourcePlace]) -> list[SourcePlace]:
    places = sorted((p for p in found if not is_hidden(p.name)), key=lambda place: place.name)
    if not places:
        raise SlipwayError(f"source {name!r} ({url}): there is no file; {KNOWN}")
    return places


def _facts(fs: Any, path: str, info: Mapping[str, Any]) -> dict[str, str]:
    """Say what changes when the bytes do; of a local file also what no program can set back."""
    if isinstance(fs, LocalFileSystem):
        return identity(Path(path))
    facts = {key: str(info[key]) for key in TELLING if info.get(key) is not None}
    if len(facts) < 2:  # nothing to go by: it is read every time
        facts["asked_at"] = str(time.time_ns())
    return facts


def identity(path: Path) -> dict[str, str]:
    """Tell a local file from what it was before, and from another one at its place."""
    found = path.stat()
    return {
        "size": str(found.st_size),
        "mtime_ns": str(found.st_mtime_ns),
        "ctime_ns": str(found.st_ctime_ns),
        "inode": str(found.st_ino),
    }
