"""Deliver a pipeline: build what is stale, publish the bundle, release it on a fleet.

The same flow runs from the command line, on a schedule and from a deployment's trigger
(prefect.yaml). DVC decides whether a stage runs; all effects are in here.
"""

import traceback
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows import acceptance, artifacts, environment, hours, notices, publish, summary, untold
from flows.alive import pid_files
from flows.checkout import results, worktrees
from flows.closing import finish
from flows.covering import cover_waiting
from flows.dag import stages, workspace
from flows.dag.build import StageRuns
from flows.dag.remote import Remote
from flows.patience import patiently
from flows.promotion import Promotion, table
from flows.report.facts import read_facts
from flows.starter import starter
from flows.talk import Talk
from slipway import full_disk
from slipway.bundle.format import short
from slipway.config import Config, load_config
from slipway.errors import SlipwayError
from slipway.fleet.controller import Controller
from slipway.fleet.credentials import check
from slipway.fleet.inventory import NO_CREDENTIALS, Fleet, load_fleet
from slipway.fleet.keys import ensure_local_keys
from slipway.fleet.launch.launcher import Launcher
from slipway.fleet.launch.local import LOCAL
from slipway.runs import record
from slipway.runs.attempt import with_results
from slipway.runs.git import git_state
from slipway.runs.inputs import read_inputs
from slipway.runs.parsing import parse
from slipway.runs.record import Record
from slipway.runs.run import HostAddress, ReleaseResult, Run
from tasks import installed, names


@flow(flow_run_name="deliver {pipeline}", persist_result=False)
def deliver(
    pipeline: str, fleet: str = "local", build_only: bool = False
) -> "dict[str, Any] | State[Any]":
    """Bring a pipeline's newest version to its fleet; do nothing where nothing changed."""
    root = Path.cwd()
    pid_files.hold(root, flow_run.id)
    tree = worktrees.find(root)
    ended: dict[str, Any] | SlipwayError
    try:
        if tree is not None:
            hours.require_open(load_config(root, pipeline).hours, datetime.now(UTC))
        cover_waiting(flow_run.id, "deliver", print)
        ended = run(root, pipeline, None if build_only else fleet)
    except hours.OutsideHours as closed:
        results.clear_away(tree)
        return hours.put_off(str(flow_run.id), closed)
    except SlipwayError as error:
        ended = error
    results.clear_away(tree)
    return untold.tell(ended)


def run(
    root: Path, pipeline: str, fleet_name: str | None, launcher: Launcher = LOCAL
) -> dict[str, Any]:
    """Do all steps in order and return the content of run.json; without a fleet, build only."""
    config = load_config(root, pipeline)
    names.check(root, pipeline, config, names.suite_of(pipeline))
    notices.check(root)
    fleet = load_fleet(root, fleet_name) if fleet_name else None
    if fleet is not None:
        environment.require_hosts_here(fleet.name, pipeline)
        check(fleet.credentials)  # now, and not after hours of training
    with Talk().live() as talk, workspace.only_run(root, talk.say):
        if killed := record.find_killed(root):
            finish(killed, "interrupted", "killed before it was done", talk.say)
        tree = worktrees.find(root)
        begun = Run(
            run=tree.id if tree else "",
            pipeline=pipeline,
            fleet=fleet_name,
            started_by=starter(),
            prefect_flow_run=flow_run.id,
        )
        entry = record.begin(root, begun)
        try:
            _steps(root, entry, config=config, fleet=fleet, launcher=launcher, talk=talk)
            if tree is not None:
                results.deliver(tree, talk.say)
                results.share(tree, talk.say)
        except hours.OutsideHours as closed:
            finish(entry, "interrupted", str(closed), talk.say)
            raise
        except SlipwayError as error:
            reason = notices.reason_of(entry.run, error)
            finish(entry, "failed", str(error), talk.say, reason=reason)
            artifacts.leave(_leavings(entry), talk.say)
            raise
        except Exception as error:
            full = full_disk.explain(error, root, entry.folder, root / ".dvc")
            message = full or _keep_defect(entry, error)
            finish(entry, "failed", message, talk.say, reason="failed")
            raise SlipwayError(message) from error
        except BaseException:
            finish(entry, "interrupted", "interrupted before it was done", talk.say)
            raise
        finish(entry, "completed", None, talk.say)
        artifacts.leave(_leavings(entry), talk.say)
    credentials = fleet.credentials if fleet else NO_CREDENTIALS
    payload = root / "models" / pipeline / "payload"
    print(summary.summary(entry.run, entry.report, payload, credentials), flush=True)
    return entry.run.to_dict()


def _leavings(entry: Record) -> artifacts.Leavings:
    """Gather what goes to Prefect's pages; where a gate stopped the run, what `prove` wrote."""
    root, run = entry.root, entry.run
    gates = run.gates
    if not gates and any(s.name == "prove" and s.state in ("ran", "failed") for s in run.stages):
        found = read_facts(root, run.pipeline).gates.precisions
        gates = tuple(replace(g, precision=p) for p, each in found.items() for g in each.gates)
    docs = root / ".slipway/reports" / run.pipeline / "data-docs"
    return artifacts.Leavings(run, gates, entry.report, next(docs.rglob("index.html"), None))


def _keep_defect(entry: Record, error: Exception) -> str:
    """Keep what is needed to find a defect of ours, and say where."""
    trace, said = entry.folder / "traceback.txt", f"{type(error).__name__}: {error}"
    try:
        trace.write_text(traceback.format_exc(), "utf-8")
    except OSError:  # the run's folder is gone, which may be why
        return said
    return f"{said} ({trace})"


def _steps(
    root: Path,
    entry: Record,
    config: Config,
    *,
    fleet: Fleet | None,
    launcher: Launcher,
    talk: Talk,
) -> None:
    """Build, publish, release; the record is saved as it grows."""
    workspace.recover(root, talk.say)
    pipeline = entry.run.pipeline
    differing = installed.check(root, config.environment, pipeline)
    if differing:
        talk.say(installed.one_line(differing))
    texts = tuple(map(str, differing))
    entry.note(replace(entry.run, git=git_state(root), environment=texts))
    patiently(lambda: acceptance.bring_up_to_date(root, pipeline, config, talk.say), talk.say)
    tree = worktrees.find(root)
    if tree is not None:
        stages.restore(root, pipeline)
    entry.note(replace(entry.run, inputs=read_inputs(root, pipeline)))
    remote = Remote.find(root, talk.say)
    runs = StageRuns(root, entry.folder, talk, entry.note_stages, remote=remote)
    try:
        with hours.ended_with(config.hours if tree else None, runs.stop, lambda: runs.done):
            runs.run(pipeline)
    except SlipwayError:
        if remote is not None:  # another machine may go on from what was finished
            entry.note(replace(entry.run, remote=remote.finish()))
        raise
    if remote is not None:
        entry.note(replace(entry.run, remote=remote.finish(runs.outcomes)))
    proven = publish.read_proven(root, pipeline)
    entry.note(with_results(entry.run, publish.results_of(root, pipeline, proven)))
    if tree is not None and results.commit(tree, entry.run.subject, entry.run.facts()):
        entry.note(replace(entry.run, git=git_state(root)))
    if fleet is not None:
        _release(
            root, entry, config=config, fleet=fleet, launcher=launcher, proven=proven, talk=talk
        )


def _release(
    root: Path,
    entry: Record,
    config: Config,
    *,
    proven: publish.Proven,
    fleet: Fleet,
    launcher: Launcher,
    talk: Talk,
) -> None:
    """Publish the bundle, start the hosts that do not run, and release the version."""
    keys = ensure_local_keys(root, fleet)
    pipeline, git = entry.run.pipeline, entry.run.git
    controller = Controller.open(fleet, pipeline, keys.release, talk.say, run=entry.run.run)
    promotion, store = Promotion(controller, launcher), controller.store
    upload = partial(publish.publish, proven=proven, store=store, key=keys.builder, git=git)
    first = patiently(lambda: upload(root, pipeline), talk.say)
    entry.note(replace(entry.run, published="new" if first else "kept"))
    talk.say(f"v{short(proven.version)} {'published' if first else 'was published before'}")
    hosts = tuple(HostAddress(host.name, host.url) for host in fleet.hosts)
    entry.note(replace(entry.run, hosts=hosts))
    done = patiently(lambda: promotion.release(proven.version, config.release), talk.say)
    entry.note(replace(entry.run, release=parse(ReleaseResult, done.to_dict())))
    if not done.ok:
        if lines := done.numbers.get("lines"):
            talk.say(table(lines))
        goes_on = f"; v{short(done.previous)} goes on serving" if done.previous else ""
        raise SlipwayError(f"v{short(proven.version)} was not released: {done.reason}{goes_on}")
