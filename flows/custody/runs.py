"""Records of runs: each is sealed when it ends; one that was killed is only read."""

import json
from collections.abc import Iterator
from pathlib import Path

from flows.custody.damage import Damage
from slipway.runs.record import RUNS
from tasks import sums

LOST = (
    "no copy is kept: what it said of that run is lost, and nothing else needs it; get it from a"
    " backup, or remove the folder"
)


def run_damage(root: Path) -> Iterator[Damage]:
    """Hold every run's folder against its seal, and read the record of one that has none."""
    for folder in sorted((root / RUNS).glob("*")):
        if folder.is_symlink() or not folder.is_dir():
            continue
        sealed = (folder / sums.SUMS).is_file()
        found = [*(sums.problems(folder) if sealed else []), *_record_problems(folder)]
        if found:
            shown = folder.relative_to(root).as_posix()
            yield Damage("run", shown, "; ".join(found), LOST)


def _record_problems(folder: Path) -> list[str]:
    try:
        content = json.loads((folder / "run.json").read_text("utf-8"))
        ended = content["state"] != "running"
        if content["run"] != folder.name:
            return [f"run.json is that of run {content['run']}"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        return [f"run.json cannot be read ({type(error).__name__})"]
    # runs of before had no seal; a record's end and its seal are written one after the other
    lost = ended and "finished_at" not in content
    return ["run.json says that it ended, and not when"] if lost else []
