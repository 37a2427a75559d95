"""Release a published version on a fleet, by way of a canary.

python -m flows.commands.release PIPELINE --fleet FLEET [--version V] [--dry-run] [--json]
"""

import argparse
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import environment
from flows.promotion import bring, find_published, table
from flows.server import prefect_api
from flows.talk import fail, failed
from slipway.bundle.format import short
from slipway.errors import SlipwayError
from slipway.fleet.inventory import load_fleet
from slipway.fleet.models import find_release_config
from slipway.store.objects import Store

INTERRUPTED = 128 + signal.SIGINT


def main(argv: list[str]) -> int:
    """Release once; return 0, 1 for a version that was not released, 2 for wrong usage."""
    options = _parse(argv)
    root = Path.cwd()
    try:
        store = Store(load_fleet(root, options.fleet).store)
        find_release_config(root, options.pipeline, store, options.limits)
        options.version = find_published(root, options.pipeline, store, options.version)
        if options.dry_run:  # writes nothing, so there is nothing for Prefect to keep
            done = bring(
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
    except (SlipwayError, OSError) as error:
        return failed(error)


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
    ok = done["ok"]
    if as_json:
        print(json.dumps(done, indent=2, allow_nan=False))
        return 0 if ok else 1
    if lines := done["numbers"].get("lines"):
        print(table(lines))
    print(f"{done['decision']}: {done['reason']}")
    if not ok and done["previous"]:
        print(f"v{short(done['previous'])} goes on serving, as before")
    return 0 if ok else 1


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.commands.release",
        description="Release a published version on a fleet, by way of a canary.",
    )
    parser.add_argument("pipeline", help="configs/PIPELINE.yaml, or a model pushed to the store")
    parser.add_argument("--fleet", default="local", help="configs/fleets/FLEET.yaml")
    parser.add_argument("--version", help="a published version; the one built last if left out")
    parser.add_argument("--limits", type=Path, help="how a model without a pipeline is judged")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.add_argument("--json", action="store_true", help="write the result as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
