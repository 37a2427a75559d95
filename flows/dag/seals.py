"""Hold outputs that DVC hands out against their seals, and drop what its cache holds of damage.

DVC 3.67 checks no byte of what it restores: a flipped bit in a cached object comes back with
exit code 0, and a truncated one even changes the size that dvc.lock states. A stage checks what
it reads; this checks what no stage reads again.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flows.dag import opening
from tasks import sums

if TYPE_CHECKING:
    from dvc.repo import Repo

SUFFIX = ".dir"
"""Ends the name of an object that lists a folder's files."""


def damage(root: Path, outs: Iterable[Path]) -> list[str]:
    """Say what is wrong with the folders that a stage left, or that came from the cache."""
    return [problem for out in outs for problem in sums.problems(root / out)]


def drop_damaged_objects(root: Path, address: str) -> int:
    """Remove the cached objects of a stage's outputs that are not what their names say.

    Else the next run would be given them again: DVC takes an object that is there for good.
    """
    dropped = 0
    with opening.opened(root) as repo:
        for name in _objects(repo, _entry(root, address)):
            path = Path(repo.cache.local.oid_to_path(name))
            if path.is_file() and md5(path) != name.removesuffix(SUFFIX):
                path.chmod(0o644)  # DVC makes what it caches read-only
                path.unlink()
                dropped += 1
    return dropped


def _entry(root: Path, address: str) -> dict[str, Any]:
    try:
        lock = yaml.safe_load((root / "dvc.lock").read_text("utf-8"))
        entry: dict[str, Any] = lock["stages"][address]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return {}
    return entry


def _objects(repo: "Repo", entry: dict[str, Any]) -> Iterator[str]:
    """Name every object of an entry's outputs, and of the folders among them."""
    for out in entry.get("outs") or []:
        name = str(out["md5"])
        yield name
        if name.endswith(SUFFIX):
            try:
                listed = json.loads(Path(repo.cache.local.oid_to_path(name)).read_bytes())
                yield from (str(file["md5"]) for file in listed)
            except (OSError, ValueError, TypeError, KeyError):
                continue  # the list itself is damaged, and goes


def md5(path: Path) -> str:
    """Return the MD5 of a file, by which DVC names what it caches."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
