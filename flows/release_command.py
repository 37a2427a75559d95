"""The command `python -m flows.release`, and the release that the flow of that name runs.

A pipeline here is also a model without one: made elsewhere, and pushed to the store.
"""

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows import environment
from flows.server import prefect_api
from flows.talk import fail
from slipway.bundle.format import short
from slipway.bundle.manifest import payload_version
from slipway.config import pipelines
from slipway.errors import ConfigError, SlipwayError
from slipway.fleet.controller import Controller
from slipway.fleet.inventory import load_fleet
from slipway.fleet.keys import ensure_local_keys
from slipway.fleet.launch.launcher import Launcher
from slipway.fleet.launch.local import LOCAL
from slipway.fleet.models import find_release_config
from slipway.fleet.release import Release
from slipway.fleet.release import release as bring_to_stable
from slipway.fleet.trace import find_version
from slipway.store.bundles import bundle_exists
from slipway.store.objects import Store
from slipway.wording import compact

INTERRUPTED = 128 + signal.SIGINT


def main(argv: list[str]) -> int:
    """Release once; return 0, 1 for a version that was not released, 2 for wrong usage."""
    options = _parse(argv)
    root = Path.cwd()
    try:
        store = Store(load_fleet(root, options.fleet).store)
        find_release_config(root, options.pipeline, store, options.limits)
        options.version = _published(root, options.pipeline, store, options.version)
        if options.dry_run:  # writes nothing, so there is nothing for Prefect to keep
            done = run(
                root,
                options.pipeline,
                options.fleet,
                options.version,
                limits=options.limits,
                dry_run=True,
            )
            return _show(done.to_dict(), options.json)
        return _flow(root, options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SlipwayError as error:
        fail(str(error))
        return error.exit_code


def run(
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
    wanted = _published(root, pipeline, store, version)
    key = root / ".slipway/keys/release.key"
    if not dry_run:
        key = ensure_local_keys(root, fleet).release
    controller = Controller.open(fleet, pipeline, key, _say, run=run_id)
    if not dry_run:
        launcher.up(fleet, controller.client, _say)
    return bring_to_stable(controller, wanted, config, dry_run=dry_run)


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Lay out what was compared: measure, both sides, limit, verdict."""
    names = ("measure", "candidate", "stable", "limit", "verdict", "detail")
    rows = [names, *(tuple(compact(line.get(name)) for name in names) for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _published(root: Path, pipeline: str, store: Store, version: str | None) -> str:
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


def _flow(root: Path, options: argparse.Namespace) -> int:
    environment.apply(root)
    with prefect_api(root) as server:
        from flows.release import release

        if server is not None:
            server.wait_until_ready()
        state = release(
            options.pipeline, options.fleet, options.version, options.limits, return_state=True
        )
    found = state.result(raise_on_failure=False)
    if isinstance(found, SlipwayError):
        raise found
    if isinstance(found, dict):
        return _show(found, options.json)
    fail(state.message or f"the run ended as {state.name}")
    return 1


def _show(done: Mapping[str, Any], as_json: bool) -> int:
    """Write the result on stdout; return the exit code that goes with it."""
    ok = done["decision"] not in ("rejected", "undecided", "refused")
    if as_json:
        print(json.dumps(done, indent=2, allow_nan=False))
        return 0 if ok else 1
    if lines := done["numbers"].get("lines"):
        print(table(lines))
    print(f"{done['decision']}: {done['reason']}")
    if not ok and done["previous"]:
        print(f"v{short(done['previous'])} goes on serving, as before")
    return 0 if ok else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.release",
        description="Release a published version on a fleet, by way of a canary.",
    )
    parser.add_argument("pipeline", help="configs/PIPELINE.yaml, or a model pushed to the store")
    parser.add_argument("--fleet", default="local", help="configs/fleets/FLEET.yaml")
    parser.add_argument("--version", help="a published version; the one built last if left out")
    parser.add_argument("--limits", type=Path, help="how a model without a pipeline is judged")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.add_argument("--json", action="store_true", help="write the result as JSON")
    return parser.parse_args(argv)
