"""Look through what this project holds for what nothing needs, and remove that."""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.prune import cache, stores
from flows.prune.plan import Item, Rules, Sorting, reasons_for_runs, sort
from slipway.errors import SlipwayError
from slipway.fleet.inventory import Fleet, fleets, load_fleet
from slipway.fleet.takeover import RELEASED
from slipway.runs.listing import read_runs
from slipway.runs.record import LATEST, RUNS
from slipway.state import NAME
from slipway.store import ledger
from slipway.store.objects import Store

CHECKPOINTS = Path(NAME, "checkpoints")


@dataclass(frozen=True)
class Plan:
    """What goes, kind by kind; stores by their URL."""

    runs: Sorting
    checkpoints: Sorting
    cache: Sorting
    stores: dict[str, Sorting]

    @property
    def all(self) -> list[Sorting]:
        """Every kind."""
        return [self.runs, self.checkpoints, self.cache, *self.stores.values()]


def prune(root: Path, rules: Rules, *, with_stores: bool, dry_run: bool) -> Plan:
    """Remove what nothing needs; with `dry_run`, only say what that is.

    To be called while holding `only_run`, unless dry. Stores come first: objects that only a
    bundle which goes was made of may go with it.
    """
    every = _fleets_by_store(root)
    sorted_stores = {url: stores.sort_store(Store(url), own, rules) for url, own in every.items()}
    going = sorted_stores if with_stores else {}
    needed = {
        name
        for url in every
        for name in cache.named_by_bundles(Store(url), _staying(Store(url), going.get(url)))
    }
    with cache.opened(root) as repo:
        plan = Plan(
            _sort_runs(root, every, rules),
            _sort_checkpoints(root, rules),
            cache.sort_cache(root, repo, needed),
            going,
        )
        if not dry_run:
            _carry_out(plan)
    return plan


def _carry_out(plan: Plan) -> None:
    for url, sorting in plan.stores.items():
        for item in sorting.goes:
            stores.remove(Store(url), item)
    for item in plan.cache.goes:
        cache.remove(item)
    for item in (*plan.runs.goes, *plan.checkpoints.goes):
        for path in item.where:
            shutil.rmtree(path)


def _fleets_by_store(root: Path) -> dict[str, list[Fleet]]:
    found = defaultdict(list)
    for name in fleets(root):
        fleet = load_fleet(root, name)
        found[fleet.store].append(fleet)
    return dict(found)


def _staying(store: Store, sorting: Sorting | None) -> list[str]:
    goes = {item.name for item in sorting.goes} if sorting else set()
    return [each.name for each in stores.bundles(store) if each.name not in goes]


def _sort_runs(root: Path, every: dict[str, list[Fleet]], rules: Rules) -> Sorting:
    runs = read_runs(root)
    released, named = set(), set()
    for url in every:
        store = Store(url)
        for fleet in store.names("ledger"):
            for model in store.names(f"ledger/{fleet}"):
                for entry in ledger.read_ledger(store, fleet, model).whole():
                    if entry["decision"] in RELEASED:
                        released.add(str(entry["version"]))
                        named.add(str(entry["run"]))
        for bundle in stores.bundles(store):
            if bundle.version in released:
                named |= _runs_of_lineage(store, bundle.name)
    newest = _latest(root)
    reasons = reasons_for_runs(runs, released, named, rules)
    if newest:
        reasons.setdefault(newest, "it is the latest")
    items = (_folder(root / RUNS / run.run) for run in runs)
    return sort("runs", items, reasons)


def _runs_of_lineage(store: Store, bundle: str) -> set[str]:
    """Return every text of a lineage that stands alone: a run's id is one of them."""
    with suppress(FileNotFoundError, ValueError, SlipwayError):
        return set(_texts(json.loads(store.read(f"{bundle}/lineage.json"))))
    return set()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str):
        yield value


def _latest(root: Path) -> str | None:
    link = root / RUNS / LATEST
    return link.resolve().name if link.is_symlink() else None


def _sort_checkpoints(root: Path, rules: Rules) -> Sorting:
    """Keep checkpoints by their age: a training that was interrupted lately goes on from them."""
    items = [_folder(path) for path in sorted((root / CHECKPOINTS).glob("*")) if path.is_dir()]
    reasons = {
        item.name: f"younger than {rules.keep_days:g} days"
        for item in items
        if rules.is_recent(_changed(Path(item.where[0])))
    }
    return sort("checkpoints", items, reasons)


def _folder(path: Path) -> Item:
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return Item(path.name, (path,), size)


def _changed(folder: Path) -> datetime:
    newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    return datetime.fromtimestamp(newest, UTC)
