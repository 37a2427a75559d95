"""Sources: tables named by URL, pinned by digest.

The pin (`data/<pipeline>/sources.lock`, in git) is what makes new data visible to DVC. Probe
facts such as a modification time differ between machines, so they never go into the pin: they
live in `.slipway/` and only save reading a source whose digest is known.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.errors import SlipwayError
from tasks.reading.packing import PlainFile
from tasks.reading.places import SourcePlace, explained, find_files, identity

if TYPE_CHECKING:
    from slipway.config import Source

COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Member:
    """What one file of a folder or a glob was."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Pin:
    """What a source was when it was last accepted."""

    url: str
    size_bytes: int
    sha256: str
    """Of the file; of several, of their names, sizes and digests."""
    members: Mapping[str, Member] = field(default_factory=dict)
    """The files of a folder or a glob, by their names below it."""

    def entry(self) -> dict[str, Any]:
        """Return what a pin file holds of it; of a single file, nothing about members."""
        members = {name: vars(member) for name, member in self.members.items()}
        entry = {"url": self.url, "size_bytes": self.size_bytes, "sha256": self.sha256}
        return {**entry, "members": members} if members else entry


def pin_of(entry: Mapping[str, Any]) -> Pin:
    """Read what `entry` gave."""
    members = {name: Member(**member) for name, member in entry.get("members", {}).items()}
    return Pin(**{**entry, "members": members})


def refresh_pin(root: Path, pipeline: str, sources: Mapping[str, "Source"]) -> bool:
    """Bring the pin up to date with the sources; return whether it changed."""
    lock = root / "data" / pipeline / "sources.lock"
    pins = read_sources(root, pipeline, sources)
    if lock.is_file() and read_pins(lock) == pins:
        return False
    _write(lock, {name: pin.entry() for name, pin in sorted(pins.items())})
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
        places = find_files(name, source.url)
        probe = {place.name: dict(place.facts) for place in places}
        known = probes.get(name)
        if known is not None and known.probe == probe and known.pin.url == source.url:
            pins[name] = known.pin
        else:
            with _copied(name, source.url, places) as files:
                pins[name] = _pin(source.url, files)
        seen[name] = {"probe": probe, "pin": pins[name].entry()}
    _write(memory, seen)
    return pins


@dataclass(frozen=True)
class Probe:
    """What told that a source was as before, when it was read last."""

    probe: Mapping[str, Mapping[str, str]]
    """Of each of its files."""
    pin: Pin


def _remembered(memory: Path) -> dict[str, Probe]:
    """Read what earlier probes said; a file that a crash left half-written says nothing."""
    try:
        entries = json.loads(memory.read_text("utf-8"))
        return {n: Probe(dict(e["probe"]), pin_of(e["pin"])) for n, e in entries.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def read_pins(lock: Path) -> dict[str, Pin]:
    """Read a pin file."""
    try:
        return {name: pin_of(e) for name, e in json.loads(lock.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SlipwayError(
            f"{lock} is not a source pin ({error}); remove it and run again"
        ) from None


@contextmanager
def open_pinned(name: str, url: str, pin: Pin | None) -> Iterator[list[PlainFile]]:
    """Give the files of a source, whose bytes are those of its pin; refuse any other.

    They are read after that, from where they lie, so one that changes meanwhile is refused too.
    """
    if pin is None or pin.url != url:
        raise SlipwayError(
            f"source {name!r} ({url}) is not pinned; `slipway build` pins what is there now"
        )
    with _copied(name, url, find_files(name, url)) as files:
        before = [identity(file.path) for file in files]
        if (found := _pin(url, files)) != pin:
            raise SlipwayError(
                f"source {name!r} ({url}) changed under its pin: {_difference(pin, found)};"
                " `slipway build` accepts the new data"
            )
        yield files
        if before != [identity(file.path) for file in files]:
            raise SlipwayError(
                f"source {name!r} ({url}) changed while it was read; run again when nobody writes"
            )


def _difference(pin: Pin, found: Pin) -> str:
    """Say which files are others than those that were pinned."""
    names = sorted(pin.members.keys() | found.members.keys())
    other = [name for name in names if pin.members.get(name) != found.members.get(name)]
    if other:
        return f"{', '.join(other[:5])}{', ...' if len(other) > 5 else ''} added, gone or changed"
    return f"expected SHA-256 {pin.sha256[:12]}…, found {found.sha256[:12]}…"


@contextmanager
def _copied(name: str, url: str, places: Sequence[SourcePlace]) -> Iterator[list[PlainFile]]:
    """Give local files: those of this machine themselves, and copies of all others."""
    with explained(name, url, "cannot be read"), tempfile.TemporaryDirectory() as folder:
        yield [
            PlainFile(place.name, place.file_name, _local(place, Path(folder) / str(n)), place.name)
            for n, place in enumerate(places)
        ]


def _local(place: SourcePlace, copy: Path) -> Path:
    if place.local:
        return Path(place.path)
    with place.fs.open(place.path, "rb") as remote, copy.open("wb") as file:
        shutil.copyfileobj(remote, file, COPY_BYTES)
    return copy


def _pin(url: str, files: Sequence[PlainFile]) -> Pin:
    """Say what files are: one by its digest, several by all of their names, sizes and digests."""
    members = {f.label: Member(f.path.stat().st_size, _digest(f.path)) for f in files}
    size_bytes = sum(member.size_bytes for member in members.values())
    if "" in members:  # the URL names the file itself
        return Pin(url, size_bytes, members[""].sha256)
    lines = [f"{m.sha256} {m.size_bytes} {name}\n" for name, m in sorted(members.items())]
    return Pin(url, size_bytes, hashlib.sha256("".join(lines).encode()).hexdigest(), members)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
    aside.replace(path)
