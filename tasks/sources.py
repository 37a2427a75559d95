"""Sources: tables named by URL, pinned by digest.

The pin (`data/<pipeline>/sources.lock`, in git) is what makes new data visible to DVC. Probe
facts such as a modification time differ between machines, so they never go into the pin: they
live in `.slipway/` and only save reading a source whose digest is known.
"""

import gzip
import hashlib
import importlib.metadata
import json
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from slipway.errors import SlipwayError, Unavailable, may_pass

if TYPE_CHECKING:
    from slipway.config import Source

DAMAGED = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)
"""What reading a truncated or damaged archive raises."""


@dataclass(frozen=True)
class Pin:
    """What a source was when it was last accepted."""

    url: str
    size_bytes: int
    sha256: str


def refresh_pin(root: Path, pipeline: str, sources: Mapping[str, "Source"]) -> bool:
    """Bring the pin up to date with the sources; return whether it changed."""
    lock = root / "data" / pipeline / "sources.lock"
    pins = read_sources(root, pipeline, sources)
    if lock.is_file() and read_pins(lock) == pins:
        return False
    _write(lock, {name: asdict(pin) for name, pin in sorted(pins.items())})
    return True


def find_changed(root: Path, pipeline: str, sources: Mapping[str, "Source"]) -> list[str]:
    """Name the sources that are not what the pin says; the pin stays as it is."""
    lock = root / "data" / pipeline / "sources.lock"
    known = read_pins(lock) if lock.is_file() else {}
    pins = read_sources(root, pipeline, sources)
    return sorted(name for name, pin in pins.items() if known.get(name) != pin)


def read_sources(root: Path, pipeline: str, sources: Mapping[str, "Source"]) -> dict[str, Pin]:
    """Return what the sources are now; those that probes find unchanged are not read."""
    memory = root / ".slipway" / "probes" / f"{pipeline}.json"
    probes = _remembered(memory)
    pins, seen = {}, {}
    for name, source in sources.items():
        probe = _probe(name, source.url)
        known = probes.get(name)
        if known is not None and known.probe == probe and known.pin.url == source.url:
            pins[name] = known.pin
        else:
            with open_source(name, source.url) as file:
                pins[name] = Pin(source.url, file.seek(0, 2), _digest(file))
        seen[name] = {"probe": probe, "pin": asdict(pins[name])}
    _write(memory, seen)
    return pins


@dataclass(frozen=True)
class Probe:
    """What told that a source was as before, when it was read last."""

    probe: Mapping[str, str]
    pin: Pin


def _remembered(memory: Path) -> dict[str, Probe]:
    """Read what earlier probes said; a file that a crash left half-written says nothing."""
    try:
        entries = json.loads(memory.read_text("utf-8"))
        return {n: Probe(dict(e["probe"]), Pin(**e["pin"])) for n, e in entries.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def read_pins(lock: Path) -> dict[str, Pin]:
    """Read a pin file."""
    try:
        return {name: Pin(**pin) for name, pin in json.loads(lock.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SlipwayError(
            f"{lock} is not a source pin ({error}); remove it and run again"
        ) from None


@contextmanager
def open_pinned(name: str, url: str, pin: Pin | None) -> Iterator[BinaryIO]:
    """Open a source whose bytes are those of its pin; refuse any other."""
    if pin is None or pin.url != url:
        raise SlipwayError(
            f"source {name!r} ({url}) is not pinned; `slipway build` pins what is there now"
        )
    with open_source(name, url) as file:
        if (found := _digest(file)) != pin.sha256:
            raise SlipwayError(
                f"source {name!r} ({url}) changed under its pin: expected SHA-256"
                f" {pin.sha256[:12]}…, found {found[:12]}…; `slipway build` accepts the new data"
            )
        file.seek(0)
        yield file


@contextmanager
def open_source(name: str, url: str) -> Iterator[BinaryIO]:
    """Open a source for random access; a remote one is copied to a temporary file first."""
    fs, path = _locate(name, url)
    try:
        if isinstance(fs, LocalFileSystem):
            with open(path, "rb") as file:
                yield file
            return
        with tempfile.TemporaryFile() as copy:
            with fs.open(path, "rb") as remote:
                shutil.copyfileobj(remote, copy, 1 << 20)
            copy.seek(0)
            yield copy
    except Exception as error:
        if not isinstance(error, SlipwayError) and may_pass(error):
            raise Unavailable(f"source {name!r} ({url}) does not answer: {error}") from None
        if isinstance(error, OSError):
            raise SlipwayError(f"source {name!r} ({url}) cannot be read: {error}") from None
        raise


@contextmanager
def unpacked(name: str, url: str, file: BinaryIO) -> Iterator[tuple[BinaryIO, str]]:
    """Yield the table inside .zip or .gz, with the suffix that says its format."""
    inner = Path(url.rsplit("/", 1)[-1])
    try:
        if inner.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                members = [m for m in archive.namelist() if not m.endswith("/")]
                if len(members) != 1:
                    raise SlipwayError(
                        f"source {name!r} ({url}): a zip must hold one file, this holds"
                        f" {len(members)}"
                    )
                with archive.open(members[0]) as member:
                    yield member, Path(members[0]).suffix  # type: ignore[misc]
        elif inner.suffix == ".gz":
            with gzip.open(file) as member:
                yield member, inner.with_suffix("").suffix  # type: ignore[misc]
        else:
            yield file, inner.suffix
    except DAMAGED as error:
        raise SlipwayError(f"source {name!r} ({url}) is truncated or damaged: {error}") from None


def _locate(name: str, url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    if not url.startswith("pkg://"):
        try:
            fs, path = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise SlipwayError(f"source {name!r} ({url}): {error}") from None
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


def _probe(name: str, url: str) -> dict[str, str]:
    """Ask for what changes when the bytes do: size, modification time, etag."""
    fs, path = _locate(name, url)
    try:
        info = fs.info(path)
    except Exception as error:
        if may_pass(error):
            raise Unavailable(f"source {name!r} ({url}) does not answer: {error}") from None
        if not isinstance(error, OSError | ValueError):
            raise
        raise SlipwayError(
            f"source {name!r} ({url}) does not exist or cannot be reached: {error}"
        ) from None
    telling = ("size", "mtime", "ETag", "etag", "LastModified")
    facts = {key: str(info[key]) for key in telling if key in info}
    if len(facts) < 2:  # nothing to go by: it is read every time
        facts["asked_at"] = str(time.time_ns())
    return facts


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    # typeshed wants readinto of it, which every file opened here has
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
    aside.replace(path)
