"""Lead from a version back to the data, the config and the commit that made it."""

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.bundle.signing import TrustedKeys
from slipway.bundle.verify import Verified, verify_bundle
from slipway.errors import ConfigError, SlipwayError
from slipway.fleet.inventory import Fleet
from slipway.store.bundles import download_bundle
from slipway.store.ledger import read_ledger
from slipway.store.objects import Store

PREFIX = re.compile(r"v?([0-9a-f]{12,64})")
"""12 hex digits are what people see; fewer may name two versions."""


@dataclass(frozen=True)
class VersionTrace:
    """Everything known about one version."""

    model: str
    version: str
    signed_by: str
    """Id of the builder key; its signature was checked just now."""
    lineage: dict[str, Any]
    proof: dict[str, Any]
    ledger: list[dict[str, Any]]
    """The fleet's decisions about this version, oldest first."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dict(vars(self))


def trace(fleet: Fleet, store: Store, text: str) -> VersionTrace:
    """Find the version and check its bundle first: an origin that nobody vouches for is none."""
    model, version = find_version(store, text)
    with tempfile.TemporaryDirectory(prefix="slipway-trace-") as folder:
        into = download_bundle(store, model, version, Path(folder) / version)
        bundle = verify_bundle(into, TrustedKeys.load(fleet.trusted_keys))
        lineage = json.loads((into / "lineage.json").read_bytes())
    return _trace(fleet, store, bundle, lineage)


def find_version(store: Store, text: str, model: str | None = None) -> tuple[str, str]:
    """Return model and full version of the one version in the store that begins with `text`."""
    if (match := PREFIX.fullmatch(text)) is None:
        raise ConfigError(
            "the command line",
            [
                f"{text!r} is no version: give at least its first 12 hex digits, as every answer"
                " has them in model_version and in its Slipway-Version header"
            ],
        )
    models = [model] if model else store.names("bundles")
    found = [
        (name, version)
        for name in models
        for version in store.names(f"bundles/{name}")
        if version.startswith(match[1])
    ]
    if len(found) != 1:
        what = "no version" if not found else f"{len(found)} versions"
        raise SlipwayError(f"store {store.url} holds {what} {match[1]}{_of(models)}")
    return found[0]


def _trace(fleet: Fleet, store: Store, bundle: Verified, lineage: dict[str, Any]) -> VersionTrace:
    model, version = bundle.manifest.name, bundle.manifest.version
    entries = read_ledger(store, fleet.name, model).entries
    return VersionTrace(
        model=model,
        version=version,
        signed_by=bundle.key_id,
        lineage=lineage,
        proof=bundle.proof,
        ledger=[e for e in entries if version in (e["version"], e["previous"])],
    )


def _of(models: list[str]) -> str:
    return f" of {', '.join(models)}" if models else ""
