"""Merge what runs pin, entry by entry: a stage of dvc.lock, a source of its pin and profile.

An entry of dvc.lock says that these inputs gave these outputs. Merged by lines, the inputs of one
run could end up beside the outputs of another, and DVC would take that for a fact.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

Entries = Mapping[str, Any]

ACCEPTED = "accepted.json"
PINS = ("sources.lock", ACCEPTED)
"""In a pipeline's folder under data/: which sources were accepted, and what was in them."""

_ENTRY = re.compile(r"(?m)^(?=  [^ ])")
"""Where an entry of dvc.lock begins."""


@dataclass(frozen=True)
class Merged:
    """A merged file, and the entries that both sides had changed; ours were kept."""

    text: str
    kept: tuple[str, ...] = ()


def is_pinned(path: str) -> bool:
    """Tell whether a file of the project is merged by entries."""
    parts = PurePath(path).parts
    return path == "dvc.lock" or (len(parts) == 3 and parts[0] == "data" and parts[2] in PINS)


def merge_file(path: str, *, base: str, ours: str, theirs: str) -> Merged:
    """Merge three versions of a file, each empty where there is none."""
    if not ours or not theirs:
        return Merged(ours or theirs)
    if path == "dvc.lock":
        entries, both = merge_entries(*map(_read_lock, (base, ours, theirs)))
        return Merged(_write_lock(entries), tuple(both))
    if PurePath(path).name == ACCEPTED:
        entries, both = merge_entries(*map(_read_profiles, (base, ours, theirs)))
        return Merged(_write_profiles(ours, entries), tuple(both))
    entries, both = merge_entries(*map(_read_pins, (base, ours, theirs)))
    return Merged(_write_pins(entries), tuple(both))


def merge_entries(
    base: Entries, ours: Entries, theirs: Entries
) -> tuple[dict[str, Any], list[str]]:
    """Return the merged entries in our order, theirs after, and the names that both changed.

    What one side left as it was is the other's to change or to take out. Where both changed an
    entry, ours stays: either is true of the run that made it, and DVC looks whether its inputs
    are those of today.
    """
    merged: dict[str, Any] = {}
    both = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        before, mine, other = base.get(name), ours.get(name), theirs.get(name)
        if mine not in (other, before) and other != before:
            both.append(name)
        chosen = other if mine == before else mine
        if chosen is not None:
            merged[name] = chosen
    return merged, both


def _read_lock(text: str) -> dict[str, str]:
    """Cut dvc.lock into its entries as they stand there: read and written, numbers may change."""
    _, *entries = _ENTRY.split(text)
    return {entry.partition(":\n")[0].strip(): entry.rstrip("\n") + "\n" for entry in entries}


def _write_lock(entries: Mapping[str, str]) -> str:
    return "".join(["schema: '2.0'\nstages:\n", *entries.values()])


def _read_pins(text: str) -> dict[str, Any]:
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _read_profiles(text: str) -> dict[str, Any]:
    return _read_pins(text).get("sources") or {}


def _write_profiles(ours: str, entries: Mapping[str, Any]) -> str:
    sources = {name: entries[name] for name in sorted(entries)}
    return json.dumps(_read_pins(ours) | {"sources": sources}, indent=1) + "\n"


def _write_pins(entries: Mapping[str, Any]) -> str:
    return json.dumps(entries, indent=2) + "\n"
