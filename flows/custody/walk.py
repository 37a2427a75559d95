"""Walk through everything that a project holds, and mend what can be mended."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.custody.cache import ObjectCache
from flows.custody.damage import Damage
from flows.custody.outputs import checkpoint_damage, lock_damage, output_damage
from flows.custody.releases import release_damage
from flows.custody.remote import Say, remote_damage
from flows.custody.runs import run_damage
from flows.dag.opening import opened

if TYPE_CHECKING:
    from dvc.repo import Repo

PASSES = 3
"""What was dropped from the cache comes back from an output in the next pass, and the other way
round; after that, nothing is left that another pass could mend."""


@dataclass(frozen=True)
class Mended:
    """One piece of damage, and what is left to do about it by hand."""

    damage: Damage
    left: str | None = None
    """None: nothing."""


def look(root: Path) -> list[Damage]:
    """List all damage. Nothing is changed, and nothing is trusted for its name or time."""
    found = [*run_damage(root), *checkpoint_damage(root), *release_damage(root)]
    with opened(root) as repo:
        return [*_dvc_damage(root, repo), *found]


def _dvc_damage(root: Path, repo: "Repo") -> Iterator[Damage]:
    cache = ObjectCache(repo)
    locked = [*lock_damage(root, cache)]
    yield from locked
    yield from cache.damage(root)
    if not any(damage.place == "dvc.lock" for damage in locked):  # DVC reads no dvc.yaml beside it
        yield from output_damage(root, repo, cache)


def look_elsewhere(root: Path, say: Say) -> list[Damage]:
    """List the damage in DVC's default remote; nothing is changed."""
    with opened(root) as repo:
        return list(remote_damage(repo, ObjectCache(repo), say))


def heal_elsewhere(root: Path, say: Say) -> list[Mended]:
    """Mend DVC's default remote from what is whole here: the cache is to be healed before."""
    with opened(root) as repo:
        return [
            Mended(damage, damage.mend() if damage.mend else damage.cure)
            for damage in remote_damage(repo, ObjectCache(repo), say)
        ]


def heal(root: Path) -> list[Mended]:
    """Mend what can be mended; return everything that was found, with what is left to do."""
    done: dict[tuple[str, str], Mended] = {}
    for _ in range(PASSES):
        found = look(root)
        for damage in found:
            left = damage.mend() if damage.mend else damage.cure
            done[(damage.kind, damage.place)] = Mended(damage, left)
        if not any(damage.mend for damage in found):
            break
    return list(done.values())
