"""Bundles in the stores of the fleets, and everything that needs one of them."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

from flows.prune.plan import Item, Need, Rules, Sorting, Stored, decided, reasons_for_bundles, sort
from slipway.bundle.format import VERSION
from slipway.bundle.manifest import MANIFEST, SIGNATURE
from slipway.errors import SlipwayError
from slipway.fleet.inventory import Fleet
from slipway.store import channel, ledger
from slipway.store.objects import Store


def bundles(store: Store) -> list[Stored]:
    """List every bundle, complete or not."""
    found = []
    for model in store.names("bundles"):
        for version in filter(VERSION.fullmatch, store.names(f"bundles/{model}")):
            path = f"bundles/{model}/{version}"
            files = store.names(path)
            newest = MANIFEST if MANIFEST in files else files[-1] if files else None
            written = store.modified(f"{path}/{newest}") if newest else None
            found.append(Stored(model, version, written))
    return found


def needs(store: Store, fleets: list[Fleet], rules: Rules) -> list[Need]:
    """List the versions that a channel, a ledger or a host needs, of any fleet in the store."""
    found: list[Need] = []
    for fleet in store.names("channels"):
        for model in store.names(f"channels/{fleet}"):
            found += _in_channel(store, fleet, model)
    for fleet in store.names("ledger"):
        for model in store.names(f"ledger/{fleet}"):
            found += decided(model, ledger.read_ledger(store, fleet, model).whole(), rules)
    for each in fleets:
        found += _of_hosts(each.state)
    return found


def _in_channel(store: Store, fleet: str, model: str) -> Iterator[Need]:
    """Name what the newest channel says, and the stable version before it, for a roll back.

    Signatures are not looked at: a fleet of another project may share the store, and what
    somebody might serve is kept. One that cannot be read stops the whole prune.
    """
    serials = sorted(
        int(f[1])
        for n in store.names(f"channels/{fleet}/{model}")
        if (f := channel.FILE.fullmatch(n))
    )
    before: str | None = None
    for serial in reversed(serials):
        path = f"channels/{fleet}/{model}/{serial:012d}.json"
        try:
            envelope = json.loads(store.read(path, channel.MAX_ENVELOPE_BYTES))
            content = json.loads(base64.b64decode(envelope["payload"]))
            stable, candidate = content["stable"], content["candidate"]
        except (ValueError, KeyError, TypeError):
            raise SlipwayError(
                f"store {store.url}: {path} cannot be read, so nothing says what may go:"
                " slipway verify --all --heal"
            ) from None
        if serial == serials[-1]:
            before = stable
            if stable:
                yield Need(model, stable, f"it is stable on {fleet}")
            if candidate:
                yield Need(model, candidate["version"], f"it is the candidate on {fleet}")
        elif stable and stable != before:
            yield Need(model, stable, f"it was stable before on {fleet}")
            return


def _of_hosts(state: Path) -> Iterator[Need]:
    """Name what hosts have in their caches, and remember as stable."""
    for folder in state.glob("*/cache/*/*"):
        if VERSION.fullmatch(folder.name):
            yield Need(folder.parent.name, folder.name, "a host has it in its cache")
    for path in state.glob("*/applied/*.json"):
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        for key in ("stable", "previous"):
            if version := content.get(key):
                yield Need(path.stem, version, "a host remembers it")


def sort_store(store: Store, fleets: list[Fleet], rules: Rules) -> Sorting:
    """Part the bundles of a store."""
    found = bundles(store)
    reasons = reasons_for_bundles(found, needs(store, fleets, rules), rules)
    items = [
        Item(each.name, tuple(paths), sum(store.size(path) for path in paths))
        for each in found
        for paths in [_in_order(store, each)]
    ]
    return sort("bundles", items, reasons)


def remove(store: Store, item: Item) -> None:
    """Remove a bundle, the manifest first: from then on it does not exist."""
    for path in item.where:
        store.remove(str(path))


def _in_order(store: Store, bundle: Stored) -> list[str]:
    """List the files of a bundle: those that make it one go first."""
    names = store.names(bundle.name)
    first = [name for name in (MANIFEST, SIGNATURE) if name in names]
    return [f"{bundle.name}/{name}" for name in [*first, *(n for n in names if n not in first)]]
