"""Commands that start a flow, or are about one: run, build, explain, accept, release, worker."""

from pathlib import Path

import click

from slipway.cli.project import (
    become_flow,
    dry_run_option,
    find_root,
    fleet_option,
    json_option,
    run_flow,
)
from slipway.config import load_config, pipelines
from slipway.errors import ConfigError


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
    return run_flow(root, "flows.commands.deliver", pipeline, "--fleet", fleet_name)


@click.command()
@click.argument("pipeline")
def build(pipeline: str) -> int:
    """Build and prove, but publish and release nothing.

    \b
      slipway build flights
    """
    root = find_root()
    load_config(root, pipeline)
    return run_flow(root, "flows.commands.deliver", pipeline, "--build-only")


@click.command()
@click.argument("stage", required=False)
@click.option("--pipeline", metavar="P", help="The pipeline; may be left out if there is one only.")
@json_option
def explain(stage: str | None, pipeline: str | None, as_json: bool) -> int:
    """Say why a STAGE would run, or be skipped; without STAGE, of every stage of the pipeline.

    Names every parameter, file and command that changed since the stage ran, from what to what,
    with the commit that changed a file last, and whether the run-cache has the result already.
    Runs and changes nothing. Where other versions are installed than requirements.lock has,
    that is told at the end.

    \b
      slipway explain train --pipeline flights
      slipway explain quantize@flights-int8-static
      slipway explain --pipeline flights --json
    """
    root = find_root()
    chosen = pipeline or _only_pipeline(root)
    load_config(root, chosen)
    options = ["--pipeline", chosen, *(["--json"] if as_json else [])]
    return run_flow(root, "flows.commands.explain", *([stage] if stage else []), *options)


def _only_pipeline(root: Path) -> str:
    known = pipelines(root)
    if len(known) != 1:
        problem = f"--pipeline: say which pipeline; there is: {', '.join(known) or 'none'}"
        raise ConfigError("the command line", [problem])
    return known[0]


@click.command()
@click.argument("pipeline")
@click.option("--yes", is_flag=True, help="Accept without a question, in a script.")
@dry_run_option
@json_option
def accept(pipeline: str, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Look at how the sources changed, and accept them.

    A run takes new data by itself, or stops at it, as `accept.policy` in configs/PIPELINE.yaml
    says: `auto`, `within limits` or `ask`. Shown are bytes, rows, columns, shares of nulls,
    ranges and frequent values, each against what was accepted last (data/PIPELINE/accepted.json,
    kept in git). Without a yes, nothing is changed.

    \b
      slipway accept flights
      slipway accept flights --dry-run
      slipway accept flights --yes
    """
    root = find_root()
    load_config(root, pipeline)
    options = ["--yes"] if yes else []
    options += ["--dry-run"] if dry_run else []
    options += ["--json"] if as_json else []
    return run_flow(root, "flows.commands.accept", pipeline, *options)


@click.command()
@click.argument("model", metavar="PIPELINE|MODEL")
@click.option(
    "--version",
    metavar="V",
    help="A published version; of a pipeline, the one built last if left out.",
)
@click.option("--fleet", "fleet_name", required=True, metavar="F", help="The fleet.")
@click.option(
    "--limits",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True),
    help="How a MODEL without a pipeline is judged: YAML, as `release` in configs/flights.yaml.",
)
@dry_run_option
@json_option
def release(
    model: str,
    version: str | None,
    fleet_name: str,
    limits: Path | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Release a published version on a fleet by way of a canary.

    The candidate answers a share of the callers beside the stable version; it is promoted,
    or dropped and rejected, by how both answer the same golden rows in the same minute. Where
    no labels say which answers are better (a MODEL that was pushed), it must answer without
    errors, no slower than stable, and as it was proven to.

    \b
      slipway release flights --fleet local --dry-run
      slipway release flights --fleet local --version 3f9a0c12d4e5
      slipway release mlp --fleet local --version 8c1d55e09a7b
    """
    from slipway.fleet.inventory import load_fleet
    from slipway.fleet.models import find_release_config
    from slipway.store.objects import Store

    root = find_root()
    store = Store(load_fleet(root, fleet_name).store)
    find_release_config(root, model, store, limits)
    options = ["--fleet", fleet_name]
    options += ["--version", version] if version else []
    options += ["--limits", str(limits)] if limits else []
    options += ["--dry-run"] if dry_run else []
    options += ["--json"] if as_json else []
    return run_flow(root, "flows.commands.release", model, *options)


@click.command()
@click.argument("branch", default="slipway/main", metavar="[BRANCH]")
def merge(branch: str) -> int:
    """Merge what scheduled runs released into the branch that you are on.

    They work in git worktrees of their own and leave what they pin (dvc.lock, source pins) as
    commits on slipway/main. Plain `git merge` does too, but goes by lines; this merges dvc.lock
    by stages and pins by sources, so that no entry is put together from two runs.

    \b
      slipway merge
      slipway merge slipway/run-20261130-030002-1f3a
    """
    return run_flow(find_root(), "flows.commands.merge", branch)


@click.command()
@click.option("--pool", metavar="POOL", help="The work pool; that of prefect.yaml if left out.")
def worker(pool: str | None) -> None:
    """Run in this checkout what your Prefect server schedules and triggers.

    This becomes Prefect's worker for the work pool that prefect.yaml names. First it marks
    Crashed what died on this machine without a word (power cut, kill -9, out of memory):
    Prefect takes such a run for Running, and each later one would wait for it for ever. A run
    that lives, and one of another machine, is left alone.

    One worker works in a checkout; a second one waits for the first to end. It waits for a
    server that does not answer yet, so it may start with the machine.

    \b
      export PREFECT_API_URL=http://127.0.0.1:4200/api
      slipway worker
      slipway worker --pool gpu
    """
    become_flow(find_root(), "flows.commands.worker", *(["--pool", pool] if pool else []))
