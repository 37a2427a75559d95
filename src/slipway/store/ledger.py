"""The ledger: every release decision with its reasons, appended and never changed.

`ledger/<fleet>/<model>/<nanoseconds, 20 digits>-<16 hex>.json`; the hex is the beginning of the
entry's SHA-256, so that damage shows (8 hex of chance before 0.3). The flow engine's own record
of runs is a hint only: it loses and overwrites states.
"""

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from slipway.bundle.format import MAX_JSON_BYTES, Document, canonical_json, parse_document
from slipway.errors import SlipwayError
from slipway.store.objects import Store

FILE = re.compile(r"[0-9]{20}-([0-9a-f]{8}|[0-9a-f]{16})\.json")
MARK = 16
"""Hex digits of an entry's SHA-256 in its name."""

Decision = Literal[
    "first release", "canary started", "promoted", "rejected", "rolled back", "already serves"
]


class Entry(Document):
    """One decision."""

    at: str
    """When, ISO 8601."""
    decision: Decision
    """What was decided."""
    version: str | None
    """The version that it is about."""
    previous: str | None = None
    """The version that served before."""
    serial: int | None = None
    """The channel that carries it out."""
    reason: str
    """Why, in words."""
    numbers: dict[str, Any] = Field(default_factory=dict)
    """What was measured."""
    run: str | None = None
    """The delivery that led to it."""


@dataclass(frozen=True)
class Ledger:
    """What is left of the record of one model on one fleet."""

    entries: list[dict[str, Any]]
    """Every decision that is as it was written, the oldest first."""
    damaged: Mapping[str, str]
    """What is wrong with the others, by path: no decision may rest on them."""

    def whole(self) -> list[dict[str, Any]]:
        """Return every decision; raise SlipwayError for who must not miss one."""
        if self.damaged:
            problems = "\n  ".join(f"{path}: {problem}" for path, problem in self.damaged.items())
            raise SlipwayError(f"entries of the ledger are damaged:\n  {problems}")
        return self.entries


def append(
    store: Store,
    fleet: str,
    model: str,
    entry: dict[str, Any],
    now_ns: Callable[[], int] = time.time_ns,
) -> None:
    """Add a decision after all others, even where the clock was set back."""
    checked = Entry.model_validate(entry).model_dump()
    names = [name for name in store.names(_folder(fleet, model)) if FILE.fullmatch(name)]
    last = int(names[-1][:20]) if names else 0
    data = canonical_json(checked)
    name = f"{max(now_ns(), last + 1):020d}-{_mark(data)}.json"
    store.create(f"{_folder(fleet, model)}/{name}", data)


def read_ledger(store: Store, fleet: str, model: str) -> Ledger:
    """Return every decision, and what is damaged apart: one bad file must not stop a release."""
    folder, entries, damaged = _folder(fleet, model), [], {}
    for name in store.names(folder):
        try:
            entries.append(_read(store, f"{folder}/{name}", name))
        except SlipwayError as error:
            damaged[f"{folder}/{name}"] = str(error)
    return Ledger(entries, damaged)


def _mark(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:MARK]


def _read(store: Store, path: str, name: str) -> dict[str, Any]:
    """Read an entry; raise SlipwayError for one that is not as it was written."""
    known = FILE.fullmatch(name)
    if known is None:
        raise SlipwayError("has no name of an entry")
    try:
        data = store.read(path, MAX_JSON_BYTES)
        entry = parse_document(Entry, data).model_dump()
    except FileNotFoundError:
        raise SlipwayError("is gone since it was listed") from None
    except (ValueError, RecursionError) as error:
        raise SlipwayError(f"is no ledger entry: {error}") from None
    if len(known[1]) == MARK and known[1] != _mark(data):
        raise SlipwayError("its SHA-256 does not begin as its name says")
    return entry


def _folder(fleet: str, model: str) -> str:
    return f"ledger/{fleet}/{model}"
