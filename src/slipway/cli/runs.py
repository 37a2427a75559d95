"""Commands about what ran: runs, runs show, runs report."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from slipway.bundle.format import short
from slipway.cli.project import find_root, json_option, run_flow, say, show_json
from slipway.cli.table import table
from slipway.errors import ConfigError
from slipway.wording import NOTHING, compact, duration, moment, size, when

if TYPE_CHECKING:
    from slipway.runs.run import Run, StageOutcome

STATES = ("running", "completed", "failed", "interrupted")

AGO = re.compile(r"(?P<count>[0-9]{1,5})(?P<unit>min|h|d)")
UNITS = {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}

LONG = 100
"""Characters of a reason that a table shows; `--json` has all of it."""


@click.group(invoke_without_command=True)
@click.option("--pipeline", metavar="PIPELINE", help="Only runs of this pipeline.")
@click.option("--state", type=click.Choice(STATES), help="Only runs in this state.")
@click.option("--since", metavar="WHEN", help="A day (2026-11-30), a time, or 30min, 12h, 7d ago.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="At most.")
@json_option
@click.pass_context
def runs(
    context: click.Context,
    pipeline: str | None,
    state: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what ran, the newest first: runs of flows, and of `dvc repro`.

    A run whose process was killed is shown as interrupted. What `dvc repro` skipped is not
    counted: DVC starts nothing for it that could tell.

    \b
      slipway runs
      slipway runs --pipeline flights --state failed --since 7d
      slipway runs show latest
      slipway runs report latest
    """
    if context.invoked_subcommand is not None:
        return
    from slipway.runs.listing import Filter, matching, read_runs

    earliest = _since(since, datetime.now(UTC)) if since else None
    root = find_root()
    found = matching(read_runs(root), Filter(pipeline, state, earliest))
    if as_json:
        show_json([run.to_dict() for run in found[:limit]])
        return
    if found:
        heads = ("run", "pipeline", "state", "started", "took", "version", "stages", "by")
        click.echo(table(heads, [_line(run) for run in found[:limit]], right=("took",)))
    else:
        say("no such run is recorded")
    if len(found) > limit:
        say(f"{len(found) - limit} older not shown: --limit {len(found)}")


@runs.command()
@click.argument("run", metavar="ID")
@json_option
def show(run: str, as_json: bool) -> None:
    """Show everything that is known of one run; ID may be its beginning, or `latest`.

    Memory is that of the largest single process of a stage. Bytes are those that it asked for
    and gave away, whether from a disk or from memory.

    \b
      slipway runs show latest
      slipway runs show 20261130-2151
      slipway runs show latest --json
    """
    from slipway.runs.listing import find_run, read_runs

    found = find_run(read_runs(find_root()), run)
    if as_json:
        show_json(found.to_dict())
    else:
        _show(found)


@runs.command()
@click.argument("run", metavar="ID")
def report(run: str) -> int:
    """Make the report of a run again, from its record and from what its stages left.

    Folders in which another run has written since are not read: the page, and a line on
    stderr, say what cannot be shown any more. The page's path is written on stdout.

    \b
      slipway runs report latest
      slipway runs report 20261130-2151
    """
    from slipway.runs.listing import find_run, read_runs

    root = find_root()
    found = find_run(read_runs(root), run)
    return run_flow(root, "flows.commands.report", found.run)


def _since(text: str, now: datetime) -> datetime:
    """Read a time, or how long ago it was; one without a zone is of this machine's."""
    if match := AGO.fullmatch(text):
        return now - int(match["count"]) * UNITS[match["unit"]]
    if (read := moment(text)) is None:
        raise ConfigError(
            "the command line",
            [f"--since: expected such as 2026-11-30, 2026-11-30T18:00, 12h or 7d, got {text!r}"],
        )
    return read.astimezone()


def _line(run: "Run") -> tuple[str, ...]:
    from slipway.runs.listing import counts, took_s

    seen = counts(run)
    stages = [f"{seen.ran} ran", f"{seen.skipped} skipped", f"{seen.failed} failed"]
    return (
        run.run,
        run.pipeline or NOTHING,
        run.state or "not readable",
        when(run.started_at or None),
        duration(took_s(run, datetime.now(UTC))),
        short(run.version) if run.version else NOTHING,
        ", ".join(part for part in stages if not part.startswith("0 ")) or NOTHING,
        _by(run),
    )


def _by(run: "Run") -> str:
    return ", ".join(part for part in (run.started_by.kind, run.started_by.who) if part) or NOTHING


def _show(run: "Run") -> None:
    """Write the outcome first, then the stages, then all that went in."""
    from slipway.runs.listing import took_s

    facts = {
        "run": run.run,
        "pipeline": run.pipeline,
        "state": run.state or "not readable",
        "error": run.error,
        "started": f"{when(run.started_at)} by {_by(run)}",
        "took": duration(took_s(run, datetime.now(UTC))),
        "version": run.version and f"{run.version} ({run.precision or NOTHING})",
        "published": run.published,
        "release": run.release and f"{run.release.decision}: {run.release.reason}",
        "fleet": run.fleet,
        "hosts": ", ".join(f"{host.name} {host.url}" for host in run.hosts),
        "flow run": run.prefect_flow_run,
        "commit": run.git.commit and f"{run.git.commit}{_uncommitted(run)}",
        "config": run.inputs.config_sha256 and f"sha256 {run.inputs.config_sha256}",
        "lock": run.inputs.requirements_sha256
        and f"sha256 {run.inputs.requirements_sha256}, {len(run.inputs.libraries)} libraries",
    }
    click.echo("\n".join(f"{name:10} {value}" for name, value in facts.items() if value))
    for name, pin in run.inputs.sources.items():
        rows = f", {pin.rows:,} rows" if pin.rows is not None else ""
        click.echo(f"{'source':10} {name}: {pin.url}, sha256 {short(pin.sha256)}{rows}")
    if run.stages:
        heads = ("stage", "state", "took", "cpu", "gpu", "memory", "read", "written", "exit", "why")
        click.echo("")
        numbers = ("took", "cpu", "gpu", "memory", "read", "written")
        click.echo(table(heads, [_stage(stage) for stage in run.stages], right=numbers))
    _show_values("test metrics", {name: compact(value) for name, value in run.metrics.items()})
    if run.gates:
        click.echo(f"\n{_gates(run)}")
    _show_values("config", run.inputs.config)


def _gates(run: "Run") -> str:
    rows = [
        (g.precision, g.gate, compact(g.measured), compact(g.limit), g.verdict) for g in run.gates
    ]
    heads = ("precision", "gate", "measured", "limit", "verdict")
    return table(heads, rows, right=("measured", "limit"))


def _uncommitted(run: "Run") -> str:
    count = run.git.changed_count
    return f" and {count} uncommitted file{'s' if count != 1 else ''}" if run.git.dirty else ""


def _stage(stage: "StageOutcome") -> tuple[str, ...]:
    usage = stage.usage
    why = "DVC's cache held the result" if stage.from_cache else "; ".join(stage.why)
    return (
        stage.stage,
        stage.state,
        duration(stage.seconds),
        duration(usage.cpu_s),
        duration(usage.gpu_s),
        size(usage.peak_rss_bytes),
        size(usage.read_bytes),
        size(usage.written_bytes),
        stage.exit or NOTHING,
        why if len(why) <= LONG else f"{why[: LONG - 1]}…",
    )


def _show_values(title: str, values: Mapping[str, Any]) -> None:
    if values:
        click.echo(f"\n{title}")
    for name, value in values.items():
        click.echo(f"  {name}: {' '.join(str(value).split())}")
