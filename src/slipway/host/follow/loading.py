"""Fetch a version, check it as if nobody had, and open it. Slow: never on the event loop."""

import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from slipway.bundle.contract import Contract
from slipway.bundle.format import VERSION, short
from slipway.bundle.session import Session, open_session
from slipway.bundle.signing import TrustedKeys
from slipway.bundle.verify import check_here, verify_bundle
from slipway.errors import BundleRefused
from slipway.store.bundles import download_bundle
from slipway.store.objects import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """A version that may serve."""

    contract: Contract
    session: Session


class Loader:
    """The cache of one host: `cache/<model>/<version>/`, private to its user."""

    def __init__(self, store: Store, trusted: TrustedKeys, state: Path, threads: int) -> None:
        self._store = store
        self._trusted = trusted
        self._cache = state / "cache"
        self._threads = threads
        self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)

    def load(self, model: str, version: str) -> Opened:
        """Return an open version, from the cache if what lies there is still good.

        Everything is checked again each time: a cache is only a copy on a disk.
        """
        folder = self._cache / model / version
        if folder.exists():
            try:
                return self._open(folder, model, version)
            except BundleRefused as refusal:
                log.warning("cached copy refused", extra={"model": model, "reason": str(refusal)})
        try:
            download_bundle(self._store, model, version, folder)
            return self._open(folder, model, version)
        except BundleRefused:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def cached(self, model: str) -> set[str]:
        """List the versions in the cache, after removing what a crash left half-written."""
        folder = self._cache / model
        if not folder.is_dir():
            return set()
        for path in folder.iterdir():
            if not re.fullmatch(VERSION, path.name):
                shutil.rmtree(path, ignore_errors=True)
        return {path.name for path in folder.iterdir()}

    def forget(self, model: str, version: str) -> None:
        """Remove a version from the cache."""
        shutil.rmtree(self._cache / model / version, ignore_errors=True)

    def _open(self, folder: Path, model: str, version: str) -> Opened:
        verified = verify_bundle(folder, self._trusted)
        manifest = verified.manifest
        if (manifest.name, manifest.version) != (model, version):
            raise BundleRefused(
                f"manifest.json: is {manifest.name} {short(manifest.version)},"
                f" expected {model} {short(version)}"
            )
        provider = verified.contract.requires.provider
        session = open_session(verified.model, provider, self._threads)
        check_here(verified, session)
        return Opened(verified.contract, session)
