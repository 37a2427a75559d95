"""Bring a published version to a fleet: keys, controller, hosts, release, in that order.

A pipeline here is also a model without one: made elsewhere, and pushed to the store.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.bundle.format import short
from slipway.bundle.manifest import payload_version
from slipway.config import ReleaseConfig, pipelines
from slipway.errors import ConfigError, SlipwayError
from slipway.fleet.controller import Controller
from slipway.fleet.inventory import load_fleet
from slipway.fleet.keys import ensure_local_keys, release_key
from slipway.fleet.launch.launcher import Launcher
from slipway.fleet.launch.local import LOCAL
from slipway.fleet.models import find_release_config
from slipway.fleet.release import Release, release
from slipway.fleet.trace import find_version
from slipway.store.bundles import bundle_exists
from slipway.store.objects import Store
from slipway.wording import compact


@dataclass(frozen=True)
class Promotion:
    """What brings versions of one model to one fleet, whose hosts it starts where need be."""

    controller: Controller
    launcher: Launcher

    def release(self, version: str, config: ReleaseConfig, *, dry_run: bool = False) -> Release:
        """Start the hosts that do not run and release the version; a dry run does neither."""
        if not dry_run:
            self.launcher.up(self.controller.fleet, self.controller.client, self.controller.say)
        return release(self.controller, version, config, dry_run=dry_run)


def bring(
    root: Path,
    pipeline: str,
    fleet_name: str,
    version: str | None,
    *,
    limits: Path | None = None,
    dry_run: bool = False,
    run_id: str | None = None,
    launcher: Launcher = LOCAL,
) -> Release:
    """Start the hosts that do not run and release the version; a dry run does neither."""
    fleet = load_fleet(root, fleet_name)
    store = Store(fleet.store)
    config = find_release_config(root, pipeline, store, limits)
    wanted = find_published(root, pipeline, store, version)
    key = release_key(root) if dry_run else ensure_local_keys(root, fleet).release
    promotion = Promotion(Controller.open(fleet, pipeline, key, _say, run=run_id), launcher)
    return promotion.release(wanted, config, dry_run=dry_run)


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Lay out what was compared: measure, both sides, limit, verdict."""
    names = ("measure", "candidate", "stable", "limit", "verdict", "detail")
    rows = [names, *(tuple(compact(line.get(name)) for name in names) for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def find_published(root: Path, pipeline: str, store: Store, version: str | None) -> str:
    """Return the full version that was asked for, or that of the payload built last."""
    if version is not None:
        return find_version(store, version, pipeline)[1]
    if pipeline not in pipelines(root):
        there = ", ".join(map(short, store.names(f"bundles/{pipeline}")))
        problem = f"--version: say which version of {pipeline} to release; pushed were: {there}"
        raise ConfigError("the command line", [problem])
    payload = root / "models" / pipeline / "payload"
    if not payload.is_dir():
        raise SlipwayError(f"{payload} does not exist: build the pipeline first: slipway run")
    built = payload_version(payload)
    if not bundle_exists(store, pipeline, built):
        raise SlipwayError(
            f"v{short(built)} of {pipeline} was built, but is not in the store {store.url};"
            f" publish it: slipway run {pipeline}"
        )
    return built


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
