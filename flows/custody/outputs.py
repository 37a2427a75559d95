"""Outputs and checkpoints against their seals, and dvc.lock against what DVC remembers."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.custody.cache import ObjectCache, listed, plain
from flows.custody.damage import Damage, Mend
from flows.dag.lock_file import committed_entries, declared, heal_lock_file, read_lock, write_lock
from flows.dag.seals import SUFFIX
from tasks import sums

if TYPE_CHECKING:
    from dvc.repo import Repo


def lock_damage(root: Path, cache: ObjectCache) -> Iterator[Damage]:
    """Hold dvc.lock to what it says of itself, to the commit, and to DVC's run-cache.

    DVC writes each entry to its run-cache too. One that neither that cache nor the commit has
    just so was not written by a run here.
    """
    kept = committed_entries(root)
    if not (root / "dvc.lock").is_file():
        if kept:
            yield _in_lock("", "is missing", lambda: write_lock(root / "dvc.lock", kept))
        return
    problem, entries = read_lock(root)
    if problem is not None:
        yield _in_lock("", problem, lambda: heal_lock_file(root, _quiet))
        return
    strange = [n for n, e in entries.items() if e != kept.get(n) and not cache.remembers(plain(e))]
    for name in strange:
        said = "is as no run here wrote it, nor the commit has it"
        yield _in_lock(name, said, lambda n=name: _put_back(root, n, kept))  # type: ignore[misc]
    gone = kept.keys() - entries.keys()
    if gone and (lost := sorted(gone & declared(root).keys())):
        said = f"lacks {', '.join(lost)}, which the commit has"
        yield _in_lock("", said, lambda: heal_lock_file(root, _quiet))


def _in_lock(name: str, problem: str, mend: Mend) -> Damage:
    place = f"dvc.lock: {name}" if name else "dvc.lock"
    cure = "what the commit has is put back, the rest is looked up by its inputs: slipway build"
    return Damage("dvc.lock", place, problem, cure, mend=mend)


def output_damage(root: Path, repo: "Repo", cache: ObjectCache) -> Iterator[Damage]:
    """Hold every output that is here against its seal."""
    hashes = _hashes(root)
    stages = [stage for stage in repo.index.stages if getattr(stage, "name", None)]
    for out in sorted({Path(out.def_path) for stage in stages for out in stage.outs}):
        folder, name = root / out, hashes.get(out.as_posix(), "")
        if not folder.is_dir():
            continue
        if found := sums.problems(folder):
            yield Damage(
                "output",
                out.as_posix(),
                "; ".join(found),
                "comes back from the cache if that has it whole, else it goes: slipway build",
                mend=lambda f=folder, n=name: _bring_back(f, n, cache),  # type: ignore[misc]
            )
        elif name.endswith(SUFFIX) and cache.lacks(name) and cache.is_list_of(folder, name):
            yield Damage(
                "cache",
                out.as_posix(),
                "is here, and not whole in the cache",
                "is put back into the cache",
                mend=lambda f=folder, n=name: cache.refill(f, n),  # type: ignore[misc]
            )


def _hashes(root: Path) -> dict[str, str]:
    """Return what dvc.lock says each output is, by its path."""
    _, entries = read_lock(root) if (root / "dvc.lock").is_file() else (None, {})
    outs = [out for entry in entries.values() for out in entry.get("outs") or []]
    return {str(out["path"]): str(out.get("md5", "")) for out in outs}


def checkpoint_damage(root: Path) -> Iterator[Damage]:
    """Hold every complete checkpoint against its seal."""
    for folder in sorted((root / ".slipway/checkpoints").glob("*/step-*")):
        if folder.is_dir() and not folder.suffix and (found := sums.problems(folder)):
            cure = "goes; training resumes from the one before"
            yield Damage(
                "checkpoint",
                folder.relative_to(root).as_posix(),
                "; ".join(found),
                cure,
                mend=lambda f=folder: shutil.rmtree(f),  # type: ignore[misc]
            )


def _bring_back(folder: Path, name: str, cache: ObjectCache) -> str | None:
    """Put an output back from the cache, or away, so that DVC sees that it must be made."""
    shutil.rmtree(folder)
    if not name or not cache.is_whole(name):
        return "it is made again by: slipway build"
    aside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    for file, object_ in listed(cache.path(name)).items():
        target = aside / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cache.path(object_), target)
    if sums.problems(aside):
        shutil.rmtree(aside)
        return "the cache holds it damaged in itself; it is made again by: slipway build"
    aside.rename(folder)
    return None


def _put_back(root: Path, name: str, kept: Mapping[str, Any]) -> str | None:
    _, entries = read_lock(root)
    entries.pop(name, None)
    write_lock(root / "dvc.lock", entries | ({name: kept[name]} if name in kept else {}))
    return None if name in kept else "DVC looks it up by its inputs: slipway build"


def _quiet(text: str) -> None:
    """Say nothing: what is done was said before."""
