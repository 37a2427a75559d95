"""Set a dvc.lock right that a crash left half-written, before anything is run by it."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from flows.git import committed

Say = Callable[[str], None]


def heal_lock_file(root: Path, say: Say) -> None:
    """Put back what a dvc.lock lost that was cut off, or had entries taken out.

    Whole entries stay. Stages of dvc.yaml that the commit has an entry of, and this file has
    none, get the commit's: nobody but a crash takes them out, and other pipelines' results
    would be unknown without. DVC's run-cache remembers results by their inputs, so what is
    still missing then is looked up there and not computed again.
    """
    path = root / "dvc.lock"
    if not path.is_file():
        return
    problem, entries = read_lock(root)
    missing = {n: e for n, e in _committed(root).items() if not _outs(e) <= _outs(entries.get(n))}
    if problem is None and not missing:
        return  # by far the most frequent: dvc.yaml need not be read
    aside = path.with_name("dvc.lock.damaged")
    shutil.copyfile(path, aside)
    if problem is not None:  # DVC reads no dvc.yaml beside it
        path.unlink()
    stages = _stages(root)
    lost = {name: entry for name, entry in missing.items() if name in stages}
    if problem is None and not lost:
        aside.unlink()
        return
    if kept := {**entries, **lost}:
        _write_lock(path, kept)
    back = f"; {len(lost)} entries were put back from the commit" if lost else ""
    say(f"{path.name} {problem or 'lacked entries'}: set aside as {aside.name}{back}")


def read_lock(root: Path) -> tuple[str | None, dict[str, Any]]:
    """Return what is wrong with dvc.lock, and its entries that are whole."""
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    path = root / "dvc.lock"
    try:
        return None, dict(Lockfile(Repo(root), str(path)).load().get("stages") or {})
    except DvcException as error:
        *whole, _cut = _ENTRY.split(path.read_text("utf-8", "replace"))[1:] or [""]
        return f"was not readable ({_one_line(error)})", _entries(f"stages:\n{''.join(whole)}")


_ENTRY = re.compile(r"(?m)^(?=  [^ ])")
"""Where an entry of dvc.lock begins; the last one of a file that was cut may lack its end."""


def _entries(text: str) -> dict[str, Any]:
    try:
        found = (yaml.safe_load(text) or {}).get("stages")
    except (yaml.YAMLError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _outs(entry: dict[str, Any] | None) -> set[str]:
    """Name the outputs that an entry tells of to the end; one that was cut may lack some."""
    return {str(out["path"]) for out in (entry or {}).get("outs") or [] if "size" in out}


def _committed(root: Path) -> dict[str, Any]:
    return _entries(committed(root, "dvc.lock") or "")


def _stages(root: Path) -> set[str]:
    from dvc.repo import Repo

    with Repo(root) as repo:
        return {stage.name for stage in repo.index.stages if getattr(stage, "name", None)}


def _write_lock(path: Path, entries: dict[str, Any]) -> None:
    from dvc.utils.serialize import dump_yaml

    aside = path.with_name("dvc.lock.new")
    dump_yaml(str(aside), {"schema": "2.0", "stages": entries})
    os.replace(aside, path)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
