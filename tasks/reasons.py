"""Put what DVC finds changed into words."""

from collections.abc import Iterable, Iterator
from typing import Any


def reasons(status: Iterable[Any]) -> Iterator[str]:
    """Put DVC's status into words: `train.epochs modified`, `data/flights/raw deleted`."""
    for entry in status:
        if isinstance(entry, str):  # "changed command", "always changed"
            yield entry
            continue
        for changes in entry.values():
            for path, change in changes.items():
                details = change if isinstance(change, dict) else {path: change}
                for name, how in details.items():
                    yield f"{name} {how}"


def of_inputs(stage: Any) -> tuple[str, ...]:
    """Say what of a stage's inputs differs from its last run; empty where only outputs do.

    For use inside `dvc repro`, which holds the locks that asking for the whole status needs.
    """
    found = [{"changed deps": dep.status()} for dep in stage.deps]
    return (*reasons(found), *(["changed command"] if stage.cmd_changed else []))
