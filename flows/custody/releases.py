"""What the stores of the fleets hold: bundles, channels, ledgers.

A bundle or channel that is damaged is brought back from a host of the fleet that has it whole:
hosts keep the bundles that they serve, and the channel that they applied last.
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.custody.damage import Damage, Mend
from slipway.bundle.format import VERSION
from slipway.bundle.manifest import MANIFEST, SIGNATURE
from slipway.bundle.signing import TrustedKeys
from slipway.bundle.verify import Verified, verify_bundle
from slipway.errors import BundleRefused, SlipwayError
from slipway.fleet.inventory import Fleet, fleets, load_fleet
from slipway.fleet.present import applied
from slipway.store import channel, ledger
from slipway.store.bundles import before_manifest, bundle_exists, download_bundle
from slipway.store.objects import Store

NO_COPY = "no host of this fleet has a whole copy: remove {path} from the store, then publish it"
"""A version that is built is published again by the next run, with evidence of its own."""

BACKUP = "no whole copy is here: get it from a backup of the store"


@dataclass(frozen=True)
class Shelf:
    """A fleet's store, with who may vouch for what lies there and who may have copies."""

    root: Path
    fleet: Fleet
    store: Store
    trusted: TrustedKeys


def release_damage(root: Path) -> Iterator[Damage]:
    """Look through the store of every fleet; bundles of a store that fleets share, once."""
    seen = set()
    for name in fleets(root):
        fleet = load_fleet(root, name)
        shelf = Shelf(root, fleet, Store(fleet.store), TrustedKeys(fleet.trusted_keys))
        if fleet.store not in seen:
            seen.add(fleet.store)
            yield from _bundle_damage(shelf)
        yield from _copy_damage(shelf)
        yield from _channel_damage(shelf)
        for model in shelf.store.names(f"ledger/{name}"):
            for path, problem in ledger.read_ledger(shelf.store, name, model).damaged.items():
                cure = f"{BACKUP}, or remove it; what was decided then is lost"
                yield Damage("ledger", _place(shelf, path), problem, cure)


def _bundle_damage(shelf: Shelf) -> Iterator[Damage]:
    store = shelf.store
    for model in store.names("bundles"):
        for version in filter(VERSION.fullmatch, store.names(f"bundles/{model}")):
            path = f"bundles/{model}/{version}"
            problem = _bundle_problem(shelf, model, version)
            if problem is None:
                continue
            copy = _copy(shelf, model, version)
            if copy is None:
                cure = f"{NO_COPY.format(path=path)}: slipway run {model}"
                yield Damage("bundle", _place(shelf, path), problem, cure)
                continue
            cure = f"is written anew from {copy.folder}, which verifies"
            yield Damage(
                "bundle",
                _place(shelf, path),
                problem,
                cure,
                mend=lambda c=copy, p=path: _restore(store, c, p),  # type: ignore[misc]
            )


def _bundle_problem(shelf: Shelf, model: str, version: str) -> str | None:
    """Fetch a bundle as a host would, and check all but how the model runs."""
    store = shelf.store
    if not bundle_exists(store, model, version):
        # the signature is the last before the manifest: an upload that was cut lacks both
        there = SIGNATURE in store.names(f"bundles/{model}/{version}")
        return f"{MANIFEST} is missing" if there else None
    try:
        with tempfile.TemporaryDirectory() as aside:
            folder = download_bundle(store, model, version, Path(aside) / "bundle")
            _verify(shelf, folder, model, version)
    except SlipwayError as error:
        return str(error)
    return None


def _verify(shelf: Shelf, folder: Path, model: str, version: str) -> Verified:
    verified = verify_bundle(folder, shelf.trusted)
    if (verified.manifest.name, verified.manifest.version) != (model, version):
        raise BundleRefused(f"{folder}: is {verified.manifest.name} {verified.manifest.version}")
    return verified


def _copy_damage(shelf: Shelf) -> Iterator[Damage]:
    """Look at what the hosts keep: with a damaged copy a host cannot start without its store."""
    for folder in sorted(shelf.fleet.state.glob("*/cache/*/*")):
        model, version = folder.parent.name, folder.name
        if not VERSION.fullmatch(version):
            continue
        try:
            _verify(shelf, folder, model, version)
        except SlipwayError as error:
            problem = str(error)
        else:
            continue
        place = _shown(shelf, folder)
        stored = bundle_exists(shelf.store, model, version)
        if stored and _bundle_problem(shelf, model, version) is None:
            cure = "is fetched anew from the store, as the host itself does when it loads it"
            yield Damage("copy", place, problem, cure, mend=_fetching(shelf, folder))
        elif (copy := _copy(shelf, model, version)) is not None:
            cure = f"is written anew from {copy.folder}, which verifies"
            yield Damage("copy", place, problem, cure, mend=_copying(copy, folder))
        else:
            cure = "the host fetches it when the store has it again; what it runs goes on"
            yield Damage("copy", place, problem, cure)


def _fetching(shelf: Shelf, folder: Path) -> Mend:
    def mend() -> None:
        download_bundle(shelf.store, folder.parent.name, folder.name, folder)

    return mend


def _copying(copy: Verified, folder: Path) -> Mend:
    def mend() -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as aside:
            part = Path(shutil.copytree(copy.folder, Path(aside) / folder.name))
            shutil.rmtree(folder)
            part.rename(folder)

    return mend


def _copy(shelf: Shelf, model: str, version: str) -> Verified | None:
    """Find a host of the fleet whose copy of a version is whole."""
    for folder in sorted(shelf.fleet.state.glob(f"*/cache/{model}/{version}")):
        try:
            return _verify(shelf, folder, model, version)
        except SlipwayError:
            continue
    return None


def _restore(store: Store, copy: Verified, path: str) -> None:
    """Write every file of a whole copy, the manifest last."""
    for name in [*before_manifest(copy.manifest), MANIFEST]:
        store.replace(f"{path}/{name}", (copy.folder / name).read_bytes())


def _channel_damage(shelf: Shelf) -> Iterator[Damage]:
    fleet, store = shelf.fleet.name, shelf.store
    for model in channel.models(store, fleet):
        folder = f"channels/{fleet}/{model}"
        names = store.names(folder)
        serials = {int(f[1]): name for name in names if (f := channel.FILE.fullmatch(name))}
        for name in sorted(set(names) - set(serials.values())):
            cure = "nothing reads it: remove it"
            yield Damage("channel", _place(shelf, f"{folder}/{name}"), "is no channel", cure)
        copies = applied(shelf.fleet, model, shelf.trusted)
        entries = ledger.read_ledger(store, fleet, model).entries
        noted = [int(e["serial"] or 0) for e in entries]
        newest = max([0, *serials, *copies, *noted])
        for serial in range(1, newest + 1):
            path = f"{folder}/{serial:012d}.json"
            problem = _channel_problem(shelf, model, path, serial)
            if problem is None:
                continue
            copy = copies.get(serial)
            cure = "is written anew as a host has applied it"
            if copy is None:
                cure = BACKUP
                cure += (
                    "; hosts go on with what they have"
                    if serial == newest
                    else "; no host reads it"
                )
            yield Damage(
                "channel",
                _place(shelf, path),
                problem,
                cure,
                mend=_rewriting(store, path, copy.envelope) if copy else None,
            )


def _rewriting(store: Store, path: str, data: bytes) -> Mend:
    return lambda: store.replace(path, data)


def _channel_problem(shelf: Shelf, model: str, path: str, serial: int) -> str | None:
    try:
        data = shelf.store.read(path, channel.MAX_ENVELOPE_BYTES)
        found = channel.open_channel(data, shelf.trusted, shelf.fleet.name, model).channel.serial
    except FileNotFoundError:
        return "is missing"
    except SlipwayError as error:
        return str(error)
    return None if found == serial else f"holds serial {found}"


def _place(shelf: Shelf, path: str) -> str:
    if "://" in shelf.fleet.store:
        return f"{shelf.fleet.store}/{path}"
    return _shown(shelf, Path(shelf.fleet.store) / path)


def _shown(shelf: Shelf, place: Path) -> str:
    return str(place.relative_to(shelf.root) if place.is_relative_to(shelf.root) else place)
