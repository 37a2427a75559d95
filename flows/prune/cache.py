"""Objects of DVC's cache that no branch, tag, checkout or released version needs.

The rule is that of `dvc gc --workspace --all-branches --all-tags`, for every checkout of this
repository and not only for the one that it is typed in.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.backup.cached import named_in_checkout
from flows.backup.repository import worktrees
from flows.custody.cache import OBJECT, ObjectCache, drop, listed
from flows.dag.seals import SUFFIX
from flows.dag.workspace import dvc_commands
from flows.prune.plan import Item, Sorting, sort
from slipway.errors import SlipwayError
from slipway.state import repository_state
from slipway.store.objects import Store

if TYPE_CHECKING:
    from dvc.repo import Repo

DIGEST = re.compile(rb"\b[0-9a-f]{32}(?:\.dir)?\b")


@contextmanager
def opened(root: Path) -> Iterator["Repo"]:
    """Open the project with DVC, nobody else's DVC at work in it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    if at_work := [pid for tree in worktrees(root) for pid in dvc_commands(tree)]:
        pids = ", ".join(map(str, at_work))
        raise SlipwayError(f"DVC is at work here (process {pids}): wait for it, then prune again")
    try:
        with ExitStack() as stack:
            repo = stack.enter_context(Repo(root))
            stack.enter_context(repo.lock)
            yield repo
    except DvcException as error:
        raise SlipwayError(f"DVC cannot read this project: {error}") from None


def sort_cache(root: Path, repo: "Repo", needed: set[str]) -> Sorting:
    """Part the objects; `needed` are those that bundles of released versions name."""
    cache = ObjectCache(repo)
    home = repository_state(root).parent
    if not cache.objects.resolve().is_relative_to(home):
        reason = f"the cache {cache.objects} is not this repository's alone"
        return Sorting("cache", (), {reason: len(list(_objects(cache)))})
    reasons = dict.fromkeys(_whole(cache, needed), "a released version was made of it")
    for tree in worktrees(root):
        names = _whole(cache, named_in_checkout(tree))
        reasons |= dict.fromkeys(names, "a checkout's dvc.lock names it")
    reasons |= dict.fromkeys(_used(repo), "a branch or tag names it, or the checkout")
    items = [Item(name, (path,), path.stat().st_size) for name, path in sorted(_objects(cache))]
    return sort("cache", items, reasons)


def remove(item: Item) -> None:
    """Remove one object."""
    for path in item.where:
        drop(Path(path))


def named_by_bundles(store: Store, kept: list[str]) -> set[str]:
    """Name what the lineage of each bundle that stays was made of: its dvc.lock is in there."""
    found: set[str] = set()
    for bundle in kept:
        try:
            text = store.read(f"{bundle}/lineage.json")
        except FileNotFoundError:
            continue
        found |= {name.decode() for name in DIGEST.findall(text)}
    return found


def _used(repo: "Repo") -> set[str]:
    used = repo.used_objs(all_branches=True, all_tags=True)
    return {str(each.value) for names in used.values() for each in names if each.value}


def _whole(cache: ObjectCache, names: set[str]) -> set[str]:
    """Add what the lists among some names list."""
    lists = {name for name in names if name.endswith(SUFFIX)}
    return names | {inner for name in lists for inner in listed(cache.path(name)).values()}


def _objects(cache: ObjectCache) -> Iterator[tuple[str, Path]]:
    for path in cache.objects.glob("[0-9a-f][0-9a-f]/*"):
        if OBJECT.fullmatch(path.name):
            yield path.parent.name + path.name, path
