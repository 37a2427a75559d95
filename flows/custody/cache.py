"""DVC's cache: every object is what its name says, and what it lists is there.

An object's name is the MD5 of its bytes. An entry of the run-cache is named by a digest of its
content. Both can therefore be checked without knowing what they are for.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flows.custody.damage import Damage
from flows.dag.lock_file import LockLoader
from flows.dag.seals import SUFFIX, md5
from slipway.bundle.format import write_durably

if TYPE_CHECKING:
    from dvc.repo import Repo

OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")

GOES = "is dropped, so that DVC takes it from a remote or makes it again: slipway build"


class ObjectCache:
    """The local cache of a project, which other checkouts may share."""

    def __init__(self, repo: "Repo") -> None:
        """Take the project as DVC has opened it."""
        self.objects = Path(repo.cache.local.path)
        self.runs = Path(repo.cache.legacy.path) / "runs"

    def path(self, name: str) -> Path:
        """Return where an object lies."""
        return self.objects / name[:2] / name[2:]

    def is_whole(self, name: str) -> bool:
        """Tell whether an object is there, is what its name says, and so is all that it lists."""
        path = self.path(name)
        if not path.is_file() or md5(path) != name.removesuffix(SUFFIX):
            return False
        return not name.endswith(SUFFIX) or all(map(self.is_whole, listed(path).values()))

    def lacks(self, name: str) -> bool:
        """Tell, without reading what is there, whether an output's objects are not all there."""
        path = self.path(name)
        return not path.is_file() or not all(
            self.path(each).is_file() for each in listed(path).values()
        )

    def is_list_of(self, folder: Path, name: str) -> bool:
        """Tell whether a folder is the one that an object's name is of."""
        return _digest(_listing(folder)) == name.removesuffix(SUFFIX)

    def refill(self, folder: Path, name: str) -> None:
        """Put a folder's files back under their names, and its list last."""
        listing = _listing(folder)
        for entry in json.loads(listing):
            self._put(entry["md5"], (folder / entry["relpath"]).read_bytes())
        self._put(name, listing)

    def _put(self, name: str, data: bytes) -> None:
        path = self.path(name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, data, mode=0o444)

    def remembers(self, entry: Mapping[str, Any]) -> bool:
        """Tell whether the run-cache has an entry of dvc.lock just so."""
        name = run_digest(entry)
        return any(_read_yaml(path) == entry for path in self.runs.glob(f"*/*/{name}"))

    def damage(self, root: Path) -> Iterator[Damage]:
        """Look at every object and every entry of the run-cache."""
        whole = []
        for path in sorted(self.objects.glob("[0-9a-f][0-9a-f]/*")):
            name = path.parent.name + path.name
            if not OBJECT.fullmatch(path.name):
                continue  # being written, or left by who was killed while writing
            if not path.is_file() or md5(path) != name.removesuffix(SUFFIX):
                yield _dropped(root, path, "its MD5 is not its name")
            elif name.endswith(SUFFIX):
                whole.append(path)
        for path in whole:
            missing = [f for f, name in listed(path).items() if not self.path(name).exists()]
            if missing:
                said = f"lists {', '.join(missing)}, which the cache lacks"
                yield Damage("cache", _shown(root, path), said, GOES, mend=lambda p=path: drop(p))  # type: ignore[misc]
        for path in sorted(self.runs.glob("*/*/*")):
            if len(path.name) == 64 and run_digest(_read_yaml(path)) != path.name:
                yield _dropped(root, path, "its content is not that of its name")


def listed(path: Path) -> dict[str, str]:
    """Return the objects that a folder's list names, by file; none of a list that is damaged."""
    try:
        entries = json.loads(path.read_bytes())
        return {str(entry["relpath"]): str(entry["md5"]) for entry in entries}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _listing(folder: Path) -> bytes:
    """List a folder's files as dvc-data writes it."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    entries = [{"md5": md5(files[name]), "relpath": name} for name in sorted(files)]
    return json.dumps(entries, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def plain(value: Any) -> Any:
    """Return what DVC read from YAML as plain mappings and lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


def run_digest(entry: Any) -> str | None:
    """Return the name that DVC's run-cache gives to an entry of dvc.lock."""
    from dvc.stage.cache import _get_cache_hash

    try:
        return str(_get_cache_hash(dict(entry))) if isinstance(entry, Mapping) else None
    except (TypeError, ValueError, AttributeError, KeyError):
        return None


def drop(path: Path) -> None:
    """Remove a cached file; DVC makes what it caches read-only."""
    path.parent.chmod(path.parent.stat().st_mode | 0o200)
    path.unlink(missing_ok=True)


def _dropped(root: Path, path: Path, problem: str) -> Damage:
    return Damage("cache", _shown(root, path), problem, GOES, mend=lambda: drop(path))


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text("utf-8"), LockLoader)  # noqa: S506  a safe one
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _shown(root: Path, path: Path) -> str:
    return os.path.relpath(path, root)
