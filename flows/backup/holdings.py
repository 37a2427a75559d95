"""Find what a backup has to hold, in the order in which it may be read while runs go on.

A thing is listed before what it names, as whoever writes makes the named thing first: a host's
memory, then leases and ledger, then the channels that all of these name by serial, then the
bundles that channels name; the run-cache, then DVC's objects. What comes up meanwhile is in the
next snapshot, and nothing in this one names what is not in it.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from flows.backup.snapshot import Kind
from slipway.bundle.manifest import MANIFEST
from slipway.fleet.inventory import Fleet, fleets, load_fleet
from slipway.runs.listing import as_it_is
from slipway.runs.parsing import parse
from slipway.runs.record import RECORD, RUNS
from slipway.runs.run import Run
from slipway.state import NAME, repository_state

STORE_ORDER = {"leases": True, "ledger": False, "channels": False, "bundles": False}
"""The parts of a store, and whether what is in them is written again and again."""

OF_THIS_MACHINE = {"cache", "probed", "lock"}
"""Of a host's state: bundles that it fetches again, and what it has proven of this hardware."""

SECRET_NAMES = ("api-keys.json", "secret", "tls.*", "ca.*")


@dataclass(frozen=True)
class FoundFile:
    """One file that a backup is to hold."""

    path: str
    """Relative to the project."""
    where: Path
    kind: Kind
    data: bytes | None = None
    """What was in it when it was found: of small files that hosts and releases write again and
    again, read before what they name is listed."""

    @property
    def by_digest(self) -> bool:
        """Tell what is named by its content: read once, it need not be read again.

        A channel is not: a store that is made anew begins with serial 1 again.
        """
        return self.kind in ("cache", "run-cache")


@dataclass
class Holdings:
    """All of it, and what was met on the way."""

    files: list[FoundFile] = field(default_factory=list)
    secrets: list[FoundFile] = field(default_factory=list)
    stores: list[str] = field(default_factory=list)
    """Stores that are elsewhere."""
    notes: list[str] = field(default_factory=list)


class Places:
    """Where things are, relative to the project and from every worktree."""

    def __init__(self, root: Path) -> None:
        """Take the project's root."""
        self.root, self.state = root.resolve(), repository_state(root)

    def name(self, path: Path) -> str | None:
        """Name a path relative to the project; None if it lies outside."""
        path = Path(os.path.abspath(path))
        if path.is_relative_to(self.state):
            return (Path(NAME) / path.relative_to(self.state)).as_posix()
        if path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        return None

    def path(self, name: str) -> Path:
        """Return where a path of the project lies."""
        first, _, rest = name.partition("/")
        return self.state / rest if first == NAME else self.root / name


def look(root: Path) -> Holdings:
    """List everything but DVC's cache and git."""
    held, places = Holdings(), Places(root)
    every = [load_fleet(root, name) for name in fleets(root)]
    for fleet in every:
        _add(held, places, fleet.state, _host_files(fleet.state), kind="host", moves=True)
        _add(held, places, fleet.trusted_keys, _below(fleet.trusted_keys), kind="key", moves=True)
    own = places.state / "trusted_keys"
    _add(held, places, own, _below(own), kind="key", moves=True)
    _add(held, places, places.state / "runs", _ended_runs(root), kind="run", moves=False)
    for store in dict.fromkeys(fleet.store for fleet in every):
        _add_store(held, places, store)
    _add_secrets(held, places, every)
    return held


def _add_store(held: Holdings, places: Places, store: str) -> None:
    store = store.removeprefix("file://")
    if "://" in store:
        held.stores.append(store)
        return
    folder = Path(store)
    for part, moves in STORE_ORDER.items():
        files = _whole_bundles(folder / part) if part == "bundles" else _below(folder / part)
        _add(held, places, folder, files, kind="store", moves=moves)


def _whole_bundles(folder: Path) -> Iterator[Path]:
    """Yield the files of complete bundles: what is listed after the manifest was seen is all."""
    for manifest in sorted(folder.glob(f"*/*/{MANIFEST}")):
        yield from _below(manifest.parent)


def _add(
    held: Holdings, places: Places, folder: Path, files: Iterable[Path], *, kind: Kind, moves: bool
) -> None:
    known = {each.path for each in held.files}
    if places.name(folder) is None:
        if any(True for _ in files):
            held.notes.append(f"{folder} lies outside of the project, and is not kept")
        return
    for path in files:
        name = places.name(path)
        if name is None or name in known:
            continue
        with suppress(FileNotFoundError):  # replaced, or cleared away, at this very moment
            held.files.append(FoundFile(name, path, kind, path.read_bytes() if moves else None))


def _add_secrets(held: Holdings, places: Places, every: list[Fleet]) -> None:
    paths = [*_below(places.state / "keys"), places.root / ".dvc/config.local"]
    for pattern in SECRET_NAMES:
        paths += sorted((places.state / "fleets").glob(f"*/{pattern}"))
    for fleet in every:
        named = [fleet.api_keys, fleet.credentials.key_file, fleet.credentials.ca]
        named += [fleet.tls.certificate, fleet.tls.key] if fleet.tls else []
        paths += [path for path in named if path is not None]
    for path in dict.fromkeys(paths):
        if not path.is_file():
            continue
        name = places.name(path)
        if name is None:
            held.notes.append(f"{path} lies outside of the project, and is not kept")
        else:
            held.secrets.append(FoundFile(name, path, "key"))
    secret = {each.path for each in held.secrets}
    held.files[:] = [each for each in held.files if each.path not in secret]


def _host_files(state: Path) -> Iterator[Path]:
    """Yield what a takeover needs of the hosts: their memory of serials, quotas, audit logs."""
    for path in _below(state):
        parts = path.relative_to(state).parts
        if not OF_THIS_MACHINE & set(parts) and path.suffix not in (".log", ".pid", ".sock"):
            yield path


def _ended_runs(root: Path) -> Iterator[Path]:
    """Yield the files of every run that is not going on."""
    for record in sorted((root / RUNS).glob(f"*/{RECORD}")):
        if record.parent.is_symlink():
            continue
        try:
            run = as_it_is(parse(Run, json.loads(record.read_text("utf-8"))))
        except (OSError, ValueError):
            continue
        if run.state != "running":
            yield from _below(record.parent.resolve())


def _below(folder: Path) -> Iterator[Path]:
    """Yield the regular files below a folder; what is being written has a name with a dot."""
    if not folder.is_dir():
        return
    for top, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(top, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path
