"""The ledger: every release decision with its reasons, appended and never changed.

`ledger/<fleet>/<model>/<nanoseconds, 20 digits>-<16 hex>.json`; the hex is the beginning of the
entry's SHA-256, so that damage shows (8 hex of chance before 0.3). The flow engine's own record
of runs is a hint only: it loses and overwrites states.
"""

import hashlib
import re
import time
from collections.abc import Callable
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


def append(
    store: Store,
    fleet: str,
    model: str,
    entry: dict[str, Any],
    now_ns: Callable[[], int] = time.time_ns,
) -> None:
    """Add a decision after all others, even where the clock was set back."""
    checked = Entry.model_validate(entry).model_dump()
    names = store.names(_folder(fleet, model))
    last = int(names[-1][:20]) if names else 0
    data = canonical_json(checked)
    name = f"{max(now_ns(), last + 1):020d}-{_mark(data)}.json"
    store.create(f"{_folder(fleet, model)}/{name}", data)


def read_ledger(store: Store, fleet: str, model: str) -> list[dict[str, Any]]:
    """Return every decision, the oldest first."""
    folder = _folder(fleet, model)
    return [_read(store, f"{folder}/{name}") for name in store.names(folder)]


def damaged(store: Store, fleet: str, model: str) -> dict[str, str]:
    """Say what is wrong with each entry that is not as it was written, by its path."""
    found = {}
    for name in store.names(_folder(fleet, model)):
        path = f"{_folder(fleet, model)}/{name}"
        known = FILE.fullmatch(name)
        try:
            _read(store, path)
        except SlipwayError as error:
            found[path] = str(error)
            continue
        if known is None:
            found[path] = "has no name of an entry"
        elif len(known[1]) == MARK and known[1] != _mark(store.read(path)):
            found[path] = "its SHA-256 does not begin as its name says"
    return found


def _mark(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:MARK]


def _read(store: Store, path: str) -> dict[str, Any]:
    try:
        return parse_document(Entry, store.read(path, MAX_JSON_BYTES)).model_dump()
    except ValueError as error:
        raise SlipwayError(f"store {store.url}: {path} is no ledger entry: {error}") from None


def _folder(fleet: str, model: str) -> str:
    return f"ledger/{fleet}/{model}"
