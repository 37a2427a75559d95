"""Bundles in the store: `bundles/<model>/<version>/<file>`, the manifest last.

A version whose manifest is there is complete and stays as it is; what lies there without a
manifest is left from an upload that was cut short, and is overwritten by the next one.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from slipway.bundle.format import MAX_JSON_BYTES, parse_version, short, sync_folder, write_durably
from slipway.bundle.manifest import (
    MANIFEST,
    SIGNATURE,
    Manifest,
    parse_manifest,
)
from slipway.bundle.signing import claimed_digests
from slipway.errors import AlreadyExists, BundleRefused, SlipwayError
from slipway.store.objects import Store


def upload_bundle(store: Store, folder: Path, model: str) -> bool:
    """Upload a bundle; return False if its version was there, which is checked and kept.

    Another run of the same pipeline gives the same payload, hence the same version, with
    other evidence: the first evidence stays, so an answer leads back to one origin.
    """
    manifest_bytes, manifest = _local_manifest(folder, model)
    version = manifest.version
    if bundle_exists(store, model, version):
        _put_right(store, folder, model, version)
        return False
    for name in before_manifest(manifest):
        data = (folder / name).read_bytes()
        if not _belongs(manifest, manifest_bytes, name, data):
            raise BundleRefused(f"{folder}/{name}: is not what {MANIFEST} lists")
        _put(store, model, version=version, name=name, data=data)
    try:
        store.create(_path(model, version, MANIFEST), manifest_bytes)
        first = True
    except AlreadyExists:
        first = False
    _put_right(store, folder, model, version)
    return first


def download_bundle(store: Store, model: str, version: str, into: Path) -> Path:
    """Fetch a complete bundle to the folder `into`, or refuse it and leave nothing there.

    This checks against the store's own manifest, so it finds damage, not forgery:
    verify_bundle comes next.
    """
    manifest_bytes, manifest = _read_manifest(store, model, version)
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}.") as aside:
            part = Path(aside) / version
            part.mkdir()
            for name in before_manifest(manifest):
                write_durably(part / name, _read_checked(store, model, manifest, name))
            write_durably(part / MANIFEST, manifest_bytes)
            if into.exists():
                shutil.rmtree(into)
            part.rename(into)
        sync_folder(into.parent)
    except OSError as error:
        raise SlipwayError(f"{into}: cannot be written: {error.strerror or error}") from None
    return into


def before_manifest(manifest: Manifest) -> list[str]:
    """Name the files that are complete before the manifest is written, in that order."""
    return [*sorted(manifest.files), SIGNATURE]


def bundle_exists(store: Store, model: str, version: str) -> bool:
    """Tell whether a version is completely uploaded."""
    return store.exists(_path(model, version, MANIFEST))


def _local_manifest(folder: Path, model: str) -> tuple[bytes, Manifest]:
    data = (folder / MANIFEST).read_bytes()
    manifest = parse_manifest(data)
    if manifest.name != model:
        raise BundleRefused(f"{folder}: is a bundle of {manifest.name}, not of {model}")
    return data, manifest


def _put(store: Store, model: str, version: str, name: str, data: bytes) -> None:
    """Write one file of an upload, over what an upload that was cut short has left.

    Once a manifest is there the bundle is another upload's, and its file stays.
    """
    path = _path(model, version, name)
    try:
        store.create(path, data)
    except AlreadyExists:
        there = store.read(path)
        if there == data or bundle_exists(store, model, version):
            return
        store.replace(path, data)
        if bundle_exists(store, model, version):  # completed in this very moment
            store.replace(path, there)


def _put_right(store: Store, folder: Path, model: str, version: str) -> None:
    """Read a stored bundle back, and restore from `folder` what differs from its manifest.

    Two uploads of one version at once may have mixed their evidence before the first
    manifest settled which counts; disks also decay. What `folder` cannot restore is said.
    """
    manifest_bytes, manifest = _read_manifest(store, model, version)
    damaged = []
    for name in before_manifest(manifest):
        if _is_intact(store, model, manifest=manifest, manifest_bytes=manifest_bytes, name=name):
            continue
        data = (folder / name).read_bytes()
        if not _belongs(manifest, manifest_bytes, name, data):
            damaged.append(name)
            continue
        store.replace(_path(model, version, name), data)
    if damaged:
        raise BundleRefused(
            f"store {store.url}: {model} {short(version)} is damaged: {', '.join(damaged)};"
            f" remove bundles/{model}/{version} from the store and publish again"
        )


def _is_intact(
    store: Store, model: str, manifest: Manifest, manifest_bytes: bytes, name: str
) -> bool:
    try:
        data = store.read(_path(model, manifest.version, name), _limit(manifest, name))
    except (FileNotFoundError, SlipwayError):
        return False
    return _belongs(manifest, manifest_bytes, name, data)


def _belongs(manifest: Manifest, manifest_bytes: bytes, name: str, data: bytes) -> bool:
    """Tell whether bytes are those that a manifest lists; a signature must name the manifest."""
    if name != SIGNATURE:
        return hashlib.sha256(data).hexdigest() == manifest.files[name].sha256
    try:
        claimed = claimed_digests(data)
    except BundleRefused:
        return False
    return claimed.get(MANIFEST) == hashlib.sha256(manifest_bytes).hexdigest()


def _read_checked(store: Store, model: str, manifest: Manifest, name: str) -> bytes:
    path = _path(model, manifest.version, name)
    try:
        data = store.read(path, _limit(manifest, name))
    except FileNotFoundError:
        raise BundleRefused(f"store {store.url}: {path} is missing") from None
    if name == SIGNATURE:
        return data
    listed = manifest.files[name]
    if (len(data), hashlib.sha256(data).hexdigest()) != (listed.bytes, listed.sha256):
        raise BundleRefused(f"store {store.url}: {path} is not what {MANIFEST} lists")
    return data


def _read_manifest(store: Store, model: str, version: str) -> tuple[bytes, Manifest]:
    path = _path(model, version, MANIFEST)
    try:
        data = store.read(path, MAX_JSON_BYTES)
    except FileNotFoundError:
        raise BundleRefused(f"store {store.url}: no version {short(version)} of {model}") from None
    manifest = parse_manifest(data)
    if manifest.version != version:
        raise BundleRefused(f"store {store.url}: {path} is of version {manifest.version}")
    return data, manifest


def _limit(manifest: Manifest, name: str) -> int:
    return MAX_JSON_BYTES if name == SIGNATURE else manifest.files[name].bytes


def _path(model: str, version: str, name: str) -> str:
    return f"bundles/{model}/{parse_version(version)}/{name}"
