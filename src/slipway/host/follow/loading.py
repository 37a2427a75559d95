"""Fetch a version, check it as if nobody had, and open it. Slow: never on the event loop.

In this order: files and signature, memory, the probe in a process of its own, then here the
sessions, each of which re-runs the golden set. Whatever fails refuses the version; what serves
goes on serving.
"""

import itertools
import logging
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from slipway.bundle.contract import Contract
from slipway.bundle.format import VERSION, short
from slipway.bundle.session import device_memory_bytes
from slipway.bundle.signing import TrustedKeys
from slipway.bundle.verify import Verified, verify_bundle
from slipway.errors import BundleRefused, SlipwayError
from slipway.host.engine.measure import Measured
from slipway.host.engine.memory import Budget, estimate, fits, resident_bytes
from slipway.host.engine.probe import Probed, probe
from slipway.host.engine.runner import Runner
from slipway.host.engine.sessions import SessionSettings, open_runner
from slipway.provider import CPU, CUDA
from slipway.store.bundles import download_bundle
from slipway.store.objects import Store

log = logging.getLogger(__name__)

SHARE: Final = 0.8
"""Of the memory of the machine or the GPU, where no budget is set: the rest is for requests."""

NO_LIMIT: Final = 1 << 62
"""Where nobody can say how much there is: the provider then refuses for itself."""


@dataclass(frozen=True)
class Opened:
    """A version that may serve."""

    contract: Contract
    runner: Runner
    """To be closed when the version is unloaded: that gives its memory back to the budget."""
    measured: Measured
    batch_invariance_max: float
    """How far an answer may move with its neighbours, as proven; 0: not by a bit."""
    damage: str | None = None
    """What was wrong with the copy in the cache, which was fetched anew; None: nothing."""


class Loader:
    """The cache of one host: `cache/<model>/<version>/`, private to its user."""

    def __init__(
        self,
        store: Store | None,
        trusted: TrustedKeys,
        state: Path,
        threads: int,
        *,
        memory_bytes: int | None = None,
        instances: int = 1,
        cuda_graphs: bool = True,
        parts: int = 1,
        try_first: Callable[[Verified], None] = probe,
    ) -> None:
        self._store = store
        self._trusted = trusted
        self._cache = state / "cache"
        self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._settings = SessionSettings(
            cores=threads,
            instances=instances,
            cuda_graphs=cuda_graphs,
            engines=state / "tensorrt",
        )
        self._probed = Probed(state / "probed")
        self._probe = try_first
        self._memory_bytes = memory_bytes
        self._parts = parts  # processes that share the memory of the machine
        self._budgets: dict[str, Budget] = {}
        self._numbers = itertools.count(1)
        self._one_at_a_time = threading.Lock()

    @property
    def budgets(self) -> dict[str, Budget]:
        """What versions hold, by provider of the memory."""
        return dict(self._budgets)

    def load(self, model: str, version: str) -> Opened:
        """Return an open version, from the cache if what lies there is still good.

        Everything is checked again each time: a cache is only a copy on a disk. What was signed
        and does not run here is not fetched again: the store has nothing else.
        """
        folder = self._cache / model / version
        try:
            verified, damage = self._cached_copy(folder, model, version)
            if verified is None:
                self._fetch(folder, model, version, damage)
                verified = self._verify(folder, model, version)
            return replace(self._run_here(verified), damage=damage)
        except BundleRefused:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _fetch(self, folder: Path, model: str, version: str, damage: str | None) -> None:
        """Download a version; raise SlipwayError where that fails: it is not the version's fault.

        Not BundleRefused: what the store lost or a disk damaged was another copy's fate, too.
        """
        assert self._store is not None
        try:
            download_bundle(self._store, model, version, folder)
        except SlipwayError as error:
            here = f"; the copy in {folder} is refused: {damage}" if damage else ""
            raise SlipwayError(f"{error}{here}") from None

    def _cached_copy(
        self, folder: Path, model: str, version: str
    ) -> tuple[Verified | None, str | None]:
        """Return what lies in the cache, or why it cannot be used; two times None: nothing does."""
        if not folder.exists():
            return None, None
        try:
            return self._verify(folder, model, version), None
        except BundleRefused as refusal:
            log.warning("cached copy refused", extra={"model": model, "reason": str(refusal)})
            return None, str(refusal)

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
        self._probed.forget(version)

    def open(self, folder: Path, model: str, version: str) -> Opened:
        """Check the bundle of a folder, which must be this model and version, and open it."""
        return self._run_here(self._verify(folder, model, version))

    def _verify(self, folder: Path, model: str, version: str) -> Verified:
        verified = verify_bundle(folder, self._trusted)
        manifest = verified.manifest
        if (manifest.name, manifest.version) != (model, version):
            raise BundleRefused(
                f"manifest.json: is {manifest.name} {short(manifest.version)},"
                f" expected {model} {short(version)}"
            )
        return verified

    def _run_here(self, verified: Verified) -> Opened:
        """Probe and open a version within the memory that is left, or refuse it."""
        contract, version = verified.contract, verified.manifest.version
        budget = self._budget(contract.requires.provider)
        name = f"{contract.model} {short(version)} #{next(self._numbers)}"
        settings = self._reserve(budget, name, verified)
        release = partial(budget.release, name)
        try:
            self._probe_once(verified)
            with self._one_at_a_time:  # two at once would measure each other
                before = resident_bytes()
                runner, measured = open_runner(verified, settings, release)
                grown = resident_bytes() - before
        except BaseException:
            release()
            raise
        if contract.requires.provider == CPU:
            budget.settle(name, grown, len(verified.model) * (2 if measured.wide else 1))
        log.info(
            "opened",
            extra={
                "model": contract.model,
                "version": short(version),
                "row_us": round(measured.row_s * 1e6, 1),
                "best_rows": measured.best_rows,
                "wide": measured.wide,
                "grown_mib": grown >> 20,
            },
        )
        return Opened(contract, runner, measured, contract.batch_invariance_max)

    def _reserve(self, budget: Budget, name: str, verified: Verified) -> SessionSettings:
        """Count a version in; without room for a second session it has to do with one."""
        on_cpu = verified.contract.requires.provider == CPU
        twice = self._settings.cores > 1 if on_cpu else self._settings.cuda_graphs
        sessions = (2 if on_cpu else self._settings.instances) if twice else 1
        size = len(verified.model)
        if sessions > 1 and fits(budget.limit, budget.held, estimate(size, sessions)):
            budget.reserve(name, estimate(size, sessions))
            return self._settings
        budget.reserve(name, estimate(size, 1))
        return replace(self._settings, cores=1, cuda_graphs=sessions == 1 and twice)

    def _probe_once(self, verified: Verified) -> None:
        if self._probed.knows(verified):
            return
        self._probe(verified)
        self._probed.remember(verified)

    def _budget(self, provider: str) -> Budget:
        """Return the budget of the memory that a provider uses: the machine's, or the GPU's."""
        kind = CPU if provider == CPU else CUDA
        if kind not in self._budgets:
            share = int(device_memory_bytes(kind) * SHARE) // self._parts
            asked = self._memory_bytes if kind == CPU else None
            self._budgets.setdefault(kind, Budget(asked or share or NO_LIMIT))
        return self._budgets[kind]
