"""Commands that start a flow: run, build, release."""

import click

from slipway.cli.project import dry_run_option, find_root, fleet_option, json_option, run_flow
from slipway.config import load_config


@click.command()
@click.argument("pipeline")
@fleet_option
def run(pipeline: str, fleet_name: str) -> int:
    """Run the whole line: build, prove, publish, release.

    Only what is stale is built again. A version takes over from the one that serves by
    way of a canary; when a gate fails, nothing is published and what serves goes on serving.

    \b
      slipway run flights
      slipway run flights --fleet local
    """
    from slipway.fleet.inventory import load_fleet

    root = find_root()
    load_config(root, pipeline)
    load_fleet(root, fleet_name)
    return run_flow(root, "flows.deliver", pipeline, "--fleet", fleet_name)


@click.command()
@click.argument("pipeline")
def build(pipeline: str) -> int:
    """Build and prove, but publish and release nothing.

    \b
      slipway build flights
    """
    root = find_root()
    load_config(root, pipeline)
    return run_flow(root, "flows.deliver", pipeline, "--build-only")


@click.command()
@click.argument("pipeline")
@click.option("--version", metavar="V", help="A published version; the one built last if left out.")
@click.option("--fleet", "fleet_name", required=True, metavar="F", help="The fleet.")
@dry_run_option
@json_option
def release(
    pipeline: str, version: str | None, fleet_name: str, dry_run: bool, as_json: bool
) -> int:
    """Release a published version on a fleet by way of a canary.

    The candidate answers a share of the callers beside the stable version; it is promoted,
    or dropped and rejected, by how both answer the same golden rows in the same minute.

    \b
      slipway release flights --fleet local --dry-run
      slipway release flights --fleet local --version 3f9a0c12d4e5
    """
    from slipway.fleet.inventory import load_fleet

    root = find_root()
    load_config(root, pipeline)
    load_fleet(root, fleet_name)
    options = ["--fleet", fleet_name]
    options += ["--version", version] if version else []
    options += ["--dry-run"] if dry_run else []
    options += ["--json"] if as_json else []
    return run_flow(root, "flows.release", pipeline, *options)
