"""Serve the bundles of these folders: no store, no channel, nobody to follow.

The folders are read at the start and again on `reload`. All of them are opened before anything
changes, and what the core serves is replaced in one assignment. A folder whose bundle is refused
goes on serving what it served before. Two folders of one model: the first is the stable version,
the others answer those who ask for them by version, or the second a share of the callers.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from slipway.bundle.format import short
from slipway.bundle.manifest import read_manifest
from slipway.errors import BundleRefused, SlipwayError
from slipway.host.answer.call import Loaded, Serving
from slipway.host.answer.core import Core
from slipway.host.follow.background import in_background
from slipway.host.follow.counts import FollowCounts
from slipway.host.follow.loading import Opened
from slipway.host.follow.memory import MODEL

log = logging.getLogger(__name__)

Open = Callable[[Path, str, str], Opened]
"""Check the bundle of a folder, which must be this model and version, and open it. Slow."""

Start = Callable[[str, str, Opened], Loaded]
"""Start the engine of an opened model and version. On the event loop."""

TEXT_MAX: Final = 1000
"""Characters of a refusal."""


@dataclass(frozen=True)
class PinnedParts:
    """What the pinned bundles work with."""

    folders: Sequence[Path]
    """In the order of the command line."""
    open: Open
    start: Start
    core: Core
    counts: FollowCounts
    splits: Mapping[str, int] = field(default_factory=dict)
    """By model: how many percent of the callers its second bundle answers."""


_Pair = tuple[str, str]
"""A model and one of its versions."""


@dataclass(frozen=True)
class _Pin:
    """What one folder gave."""

    folder: Path
    model: str | None = None
    loaded: Loaded | None = None
    since: str | None = None
    refused: str | None = None
    """Why what lies there now is not served."""


@dataclass(frozen=True)
class _Found:
    """A bundle that may serve."""

    pair: _Pair
    opened: Opened | None
    """None: it is loaded, from here or from another folder."""


class Pinned:
    """Keeps the core at what the folders hold."""

    def __init__(self, parts: PinnedParts) -> None:
        self._parts = parts
        self._pins = [_Pin(folder.absolute()) for folder in parts.folders]
        self._wake = asyncio.Event()
        self.reads = 0
        """How often the folders were read."""

    def recall(self) -> None:
        """Do nothing: there is nothing to remember, a restart reads the folders again."""

    def reload(self) -> None:
        """Read the folders again soon; what serves goes on until the new bundles passed."""
        self._wake.set()

    async def run(self) -> None:
        """Read the folders, then again whenever asked, until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._read()
            except Exception:
                log.exception("reading the bundles failed; what serves goes on")
            self.reads += 1
            await self._wake.wait()

    def status(self) -> dict[str, Any]:
        """Return the models' part of `/status`, in the form that a followed model has."""
        models: dict[str, list[_Pin]] = {}
        for pin in self._pins:
            models.setdefault(pin.model or pin.folder.name, []).append(pin)
        serving = self._parts.core.models
        return {name: _status(pins, serving.get(name, Serving())) for name, pins in models.items()}

    async def _read(self) -> None:
        """Open what is new, one folder after the other, then swap all at once."""
        before = self._pins
        known = {(pin.model, pin.loaded.version) for pin in before if pin.model and pin.loaded}
        found: list[_Found | str] = []
        for pin in before:
            each = await in_background(partial(_look, pin.folder, known, self._parts.open), "load")
            if isinstance(each, _Found):
                known.add(each.pair)
            found.append(each)
        self._pins = self._take_in(before, found)
        self._publish()
        self._unload(before)

    def _take_in(self, before: list[_Pin], found: "list[_Found | str]") -> list[_Pin]:
        """Return what the folders give now; one version is started once, however many hold it."""
        loaded = {
            (pin.model, pin.loaded.version): (pin.loaded, pin.since)
            for pin in before
            if pin.model and pin.loaded
        }
        pins = []
        for pin, each in zip(before, found, strict=True):
            if isinstance(each, str):
                self._parts.counts.bundle_refused(pin.model or pin.folder.name)
                log.error("bundle refused", extra={"folder": pin.folder.name, "reason": each})
                pins.append(replace(pin, refused=each[:TEXT_MAX]))
                continue
            model, version = each.pair
            if each.opened:
                at = datetime.now(UTC).isoformat(timespec="seconds")
                loaded[each.pair] = (self._parts.start(model, version, each.opened), at)
                log.info("serving", extra={**_about(model, version), "folder": pin.folder.name})
            pins.append(_Pin(pin.folder, model, *loaded[each.pair]))
        return pins

    def _unload(self, before: list[_Pin]) -> None:
        """Let go of what no folder holds any more; its queued requests still run."""
        serving = {id(pin.loaded) for pin in self._pins}
        for pin in before:
            if pin.model and pin.loaded and id(pin.loaded) not in serving:
                serving.add(id(pin.loaded))
                pin.loaded.engine.close()
                log.info("unloaded", extra=_about(pin.model, pin.loaded.version))

    def _publish(self) -> None:
        """Hand the core what serves now."""
        core = self._parts.core
        models: dict[str, list[Loaded]] = {}
        for pin in self._pins:
            of_model = models.setdefault(pin.model, []) if pin.model else []
            if pin.loaded and not any(loaded is pin.loaded for loaded in of_model):
                of_model.append(pin.loaded)
        core.models = {model: self._serving(model, loaded) for model, loaded in models.items()}
        core.ready = all(pin.loaded for pin in self._pins)
        core.awaited = frozenset() if all(pin.model for pin in self._pins) else None
        self._parts.counts.serving(
            (model, loaded.version, _role(loaded, serving))
            for model, serving in core.models.items()
            for loaded in serving.versions
        )

    def _serving(self, model: str, loaded: list[Loaded]) -> Serving:
        percent = self._parts.splits.get(model, 0)
        if percent and loaded[1:]:
            return Serving(
                loaded[0], loaded[1], mode="canary", percent=percent, others=tuple(loaded[2:])
            )
        return Serving(loaded[0], others=tuple(loaded[1:]))


def _role(loaded: Loaded, serving: Serving) -> str:
    if loaded is serving.stable:
        return "stable"
    return "candidate" if loaded is serving.candidate else "idle"


def _look(folder: Path, known: set[_Pair], open_bundle: Open) -> "_Found | str":
    """Open what lies in a folder, unless it is loaded; return why not if it is refused."""
    try:
        manifest = read_manifest(folder)
        model, version = manifest.name, manifest.version
        if not MODEL.fullmatch(model):
            raise BundleRefused(f"manifest.json: {model!r} cannot be the name of a model")
        opened = None if (model, version) in known else open_bundle(folder, model, version)
        return _Found((model, version), opened)
    except SlipwayError as refusal:
        return str(refusal)
    except Exception as error:  # such as memory: the other bundles must not go down with it
        return f"cannot load: {error!r}"


def _status(pins: list[_Pin], serving: Serving) -> dict[str, Any]:
    refused = {pin.folder.name: pin.refused for pin in pins if pin.refused}
    stable, candidate = serving.stable, serving.candidate
    since = [pin.since for pin in pins if pin.loaded and pin.loaded is stable]
    reason = f"pinned to {', '.join(pin.folder.name for pin in pins)}"
    if refused:
        now = "what was served before goes on" if stable else "nothing serves yet"
        reason = f"refused: {', '.join(refused)}; {now}"
    return {
        "stable": stable.version if stable else None,
        "candidate": candidate.version if candidate else None,
        "percent": serving.percent,
        "mode": serving.mode if candidate else None,
        "serial": 0,
        "since": since[0] if since else None,
        "reason": reason,
        "refused": refused,
        "alarms": [],
        "by_version": [loaded.version for loaded in serving.others],
    }


def _about(model: str, version: str) -> dict[str, str]:
    return {"model": model, "version": short(version)}
