"""DVC's cache: which of its objects a backup holds, and whether they are what they are named."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.backup.holdings import FoundFile
from flows.backup.repository import named, objects_of_history, worktrees
from flows.custody.cache import ObjectCache, listed
from flows.dag.lock_file import read_lock
from flows.dag.seals import SUFFIX
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from dvc.repo import Repo

CACHE = ".dvc/cache"
"""Where a restored project has it, wherever it is here."""

OBJECTS = f"{CACHE}/files/md5"


@dataclass(frozen=True)
class Cached:
    """What of the cache is kept."""

    files: tuple[FoundFile, ...]
    missing: tuple[str, ...]
    """Objects that a checkout's own dvc.lock names, and the cache lacks."""


def look(root: Path) -> Cached:
    """List the run-cache, and the objects that it, any commit or any checkout names."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(root) as repo:
            return _look(root, repo)
    except DvcException as error:
        raise SlipwayError(f"DVC cannot read this project: {error}") from None


def _look(root: Path, repo: "Repo") -> Cached:
    cache = ObjectCache(repo)
    entries = sorted(path for path in cache.runs.glob("*/*/*") if len(path.name) == 64)
    here = {name for tree in worktrees(root) for name in named_in_checkout(tree)}
    wanted = here | objects_of_history(root)
    for path in entries:
        wanted |= named(path.read_bytes())
    runs = [
        FoundFile(f"{CACHE}/runs/{path.relative_to(cache.runs).as_posix()}", path, "run-cache")
        for path in entries
    ]
    there = whole(cache, wanted)
    objects = [
        FoundFile(f"{OBJECTS}/{n[:2]}/{n[2:]}", cache.path(n), "cache") for n in sorted(there)
    ]
    missing = {name for name in outputs(root) if cache.lacks(name)}
    return Cached((*runs, *objects), tuple(sorted(missing)))


def named_in_checkout(root: Path) -> set[str]:
    """Name the objects of a checkout's dvc.lock as it is now, committed or not."""
    with suppress(OSError):
        return named((root / "dvc.lock").read_bytes())
    return set()


def outputs(root: Path) -> set[str]:
    """Name the objects of the outputs alone: code that stages depend on is git's to hold."""
    if not (root / "dvc.lock").is_file():
        return set()
    _, entries = read_lock(root)
    outs = [out for entry in entries.values() for out in entry.get("outs") or []]
    return {str(out["md5"]) for out in outs if "md5" in out}


def whole(cache: ObjectCache, wanted: set[str]) -> set[str]:
    """Return the wanted objects that are there, and what the lists among them name."""
    there = {name for name in wanted if cache.path(name).is_file()}
    return there | {name for each in there for name in _in_list(cache, each)}


def _in_list(cache: ObjectCache, name: str) -> Iterator[str]:
    if name.endswith(SUFFIX):
        yield from (n for n in listed(cache.path(name)).values() if cache.path(n).is_file())


def expected_md5(found: FoundFile) -> str | None:
    """Return the MD5 that an object's name promises."""
    if found.kind != "cache":
        return None
    path = Path(found.path)
    return (path.parent.name + path.name).removesuffix(SUFFIX)


def point_at_cache(root: Path, say: Callable[[str], None]) -> None:
    """Let a restored project use the cache that came with it.

    Settings may name another one: a folder that several checkouts shared, on a machine that is
    no more.
    """
    from dvc.config_schema import RelPath
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    own = root / CACHE
    try:
        with Repo(root) as repo:
            if not own.is_dir() or Path(repo.cache.local_cache_dir).resolve() == own.resolve():
                return
            with repo.config.edit("local") as settings:
                settings.setdefault("cache", {})["dir"] = RelPath(str(own))
    except DvcException as error:
        raise SlipwayError(f"DVC cannot read {root}: {error}") from None
    say(f"cache     {CACHE}, noted in .dvc/config.local; it was elsewhere before")
