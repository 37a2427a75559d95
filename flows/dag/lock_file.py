"""Set a dvc.lock right that a crash left half-written, before anything is run by it."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from flows.dag import opening
from slipway.runs.git import committed

Say = Callable[[str], None]


def heal_lock_file(root: Path, say: Say) -> None:
    """Put back what a dvc.lock lost that was cut off, or had entries taken out.

    Whole entries stay. Stages that the commit has an entry of, and this file none or half of
    one, get the commit's: other pipelines' results would be unknown without. DVC's run-cache
    remembers results by their inputs, so what is still missing is looked up there and not
    computed again.

    DVC writes the file in place, under its lock: what is half there under that is nobody's work.
    """
    if (root / "dvc.lock").is_file():
        with opening.opened(root) as repo, opening.locked(repo, say):
            _heal(root, say)


def _heal(root: Path, say: Say) -> None:
    path, aside = root / "dvc.lock", root / ".slipway/dvc.lock.damaged"
    problem, entries = read_lock(root)
    whole = committed_entries(root)
    if problem is None and all(_outs(e) <= _outs(entries.get(n)) for n, e in whole.items()):
        return  # by far the most frequent: dvc.yaml need not be read
    text = path.read_bytes()
    if problem is not None:  # DVC reads no dvc.yaml beside it
        path.unlink()
    lost = {
        name: whole[name]
        for name, outs in declared(root).items()
        if name in whole and not _outs(whole[name]) & outs <= _outs(entries.get(name))
    }
    if problem is None and not lost:
        return
    aside.parent.mkdir(exist_ok=True)
    aside.write_bytes(text)
    if kept := {**entries, **lost}:
        write_lock(path, kept)
    back = f"; {len(lost)} entries were put back from the commit" if lost else ""
    say(f"{path.name} {problem or 'lacked entries'}: kept as {aside.relative_to(root)}{back}")


def read_lock(root: Path) -> tuple[str | None, dict[str, Any]]:
    """Return what is wrong with dvc.lock, and its entries that are whole."""
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException

    path = root / "dvc.lock"
    with opening.opened(root) as repo:  # outside: a project that cannot be opened is no damage
        try:
            entries = dict(Lockfile(repo, str(path)).load().get("stages") or {})
            broken = [name for name, entry in entries.items() if not _has_digests(entry)]
            if not broken:
                return None, entries
            problem = f"named what is no MD5 ({', '.join(broken)})"
            return problem, {name: entries[name] for name in entries if name not in broken}
        except DvcException as error:
            problem = f"was not readable ({_one_line(error)})"
    *whole, _cut = _ENTRY.split(path.read_text("utf-8", "replace"))[1:] or [""]
    found = _entries(f"stages:\n{''.join(whole)}")
    return problem, {name: entry for name, entry in found.items() if _has_digests(entry)}


def _has_digests(entry: dict[str, Any]) -> bool:
    """Tell whether what should be an MD5 is one: DVC believes any word, and fails at a number."""
    try:
        files = [*(entry.get("deps") or []), *(entry.get("outs") or [])]
        return all(_has_digest(file) for file in files)
    except (TypeError, AttributeError):
        return False


def _has_digest(file: dict[str, Any]) -> bool:
    name = file.get("hash", "md5")
    if name == "md5":
        return "md5" not in file or bool(_MD5.fullmatch(file["md5"]))
    return isinstance(file.get(name), str)  # an etag, of what lies elsewhere


_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_ENTRY = re.compile(r"(?m)^(?=  [^ ])")
"""Where an entry of dvc.lock begins; the last one of a file that was cut may lack its end."""


class LockLoader(yaml.SafeLoader):
    """Reads `1e-05` as the number that DVC wrote; YAML 1.1 takes it for a text."""


LockLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _entries(text: str) -> dict[str, Any]:
    try:
        found = (yaml.load(text, LockLoader) or {}).get("stages")  # noqa: S506  a safe one
    except (yaml.YAMLError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _outs(entry: dict[str, Any] | None) -> set[str]:
    """Name the outputs that an entry tells of to the end; one that was cut may lack some."""
    return {str(out["path"]) for out in (entry or {}).get("outs") or [] if "size" in out}


def committed_entries(root: Path) -> dict[str, Any]:
    """Return the entries that the commit has."""
    return _entries(committed(root, "dvc.lock") or "")


def declared(root: Path) -> dict[str, set[str]]:
    """Return what each stage of dvc.yaml writes, by its name."""
    with opening.opened(root) as repo:
        stages = [stage for stage in repo.index.stages if getattr(stage, "name", None)]
        return {stage.name: {str(out.def_path) for out in stage.outs} for stage in stages}


def write_lock(path: Path, entries: dict[str, Any]) -> None:
    """Write dvc.lock whole or not at all."""
    from dvc.utils.serialize import dump_yaml

    aside = path.parent / ".slipway/dvc.lock.new"
    dump_yaml(str(aside), {"schema": "2.0", "stages": entries})
    os.replace(aside, path)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
