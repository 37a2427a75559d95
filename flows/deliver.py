"""Deliver a pipeline: build what is stale, publish the bundle, release it on a fleet.

    python -m flows.deliver PIPELINE [--fleet FLEET] [--build-only]

The same flow runs from the command line, on a schedule and from a deployment's trigger
(prefect.yaml). DVC decides whether a stage runs; all effects are in here.
"""

import sys
import traceback

if __name__ == "__main__":  # Prefect is imported there, when its settings are in place
    from flows.command import main

    sys.exit(main(sys.argv[1:]))

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

from flows import publish, record, summary
from flows.dag import workspace
from flows.dag.build import Build
from flows.record import Record
from flows.talk import Talk
from slipway.bundle.format import short
from slipway.config import Config, load_config
from slipway.errors import SlipwayError
from slipway.fleet.credentials import check
from slipway.fleet.inventory import NO_CREDENTIALS, Fleet, load_fleet
from slipway.fleet.launch.launcher import Launcher
from slipway.fleet.launch.local import LOCAL
from tasks import names


@flow(flow_run_name="deliver {pipeline}", persist_result=False)
def deliver(
    pipeline: str, fleet: str = "local", build_only: bool = False
) -> "dict[str, Any] | State[Any]":
    """Bring a pipeline's newest version to its fleet; do nothing where nothing changed."""
    try:
        return run(Path.cwd(), pipeline, None if build_only else fleet)
    except SlipwayError as error:
        # a state, not an exception: its message is what people are to see, not a traceback
        return Failed(message=str(error), data=error)


def run(
    root: Path, pipeline: str, fleet_name: str | None, launcher: Launcher = LOCAL
) -> dict[str, Any]:
    """Do all steps in order and return the content of run.json; without a fleet, build only."""
    config = load_config(root, pipeline)
    names.check(root, pipeline, config, names.suite_of(pipeline))
    fleet = load_fleet(root, fleet_name) if fleet_name else None
    if fleet is not None:
        check(fleet.credentials)  # now, and not after hours of training
    with Talk().live() as talk, workspace.only_run(root, talk.say):
        record.close_killed(root, talk.say)
        entry = record.begin(root, pipeline, fleet_name)
        entry.prefect_flow_run = flow_run.id
        try:
            _steps(root, entry, config=config, fleet=fleet, launcher=launcher, talk=talk)
        except SlipwayError as error:
            entry.finish("failed", str(error), talk.say)
            talk.say(f"report   {entry.report}")
            raise
        except Exception as error:  # a defect of ours: keep what is needed to find it
            trace = entry.folder / "traceback.txt"
            trace.write_text(traceback.format_exc(), "utf-8")
            entry.finish("failed", f"{type(error).__name__}: {error} ({trace})", talk.say)
            raise SlipwayError(entry.error) from error
        except BaseException:
            entry.finish("interrupted", "interrupted before it was done", talk.say)
            raise
        entry.finish("completed", None, talk.say)
    credentials = fleet.credentials if fleet else NO_CREDENTIALS
    print(summary.summary(entry, root / "models" / pipeline / "payload", credentials), flush=True)
    return entry.to_dict()


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
    from flows.git import git_state
    from tasks.sources import refresh_pin

    workspace.recover(root, talk.say)
    entry.git = git_state(root)
    if refresh_pin(root, entry.pipeline, config.ingest.sources):
        talk.say(f"the sources changed: data/{entry.pipeline}/sources.lock is updated")
    Build(root, entry.folder / "logs", talk, entry.note_stages).run(entry.pipeline)
    proven = publish.read_proven(root, entry.pipeline)
    entry.version, entry.precision, entry.gates = proven.version, proven.precision, proven.gates
    entry.save()
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
    from flows.release_command import table
    from slipway.fleet.controller import Controller
    from slipway.fleet.keys import ensure_local_keys
    from slipway.fleet.release import release

    keys = ensure_local_keys(root, fleet)
    controller = Controller.open(fleet, entry.pipeline, keys.release, talk.say, run=entry.run)
    git, store = entry.git, controller.store
    first = publish.publish(
        root, entry.pipeline, proven=proven, store=store, key=keys.builder, git=git
    )
    entry.published = "new" if first else "kept"
    talk.say(f"v{short(proven.version)} {'published' if first else 'was published before'}")
    entry.save()
    launcher.up(fleet, controller.client, talk.say)
    entry.hosts = [{"name": host.name, "url": host.url} for host in fleet.hosts]
    done = release(controller, proven.version, config.release)
    entry.release = done.to_dict()
    if not done.ok:
        if lines := done.numbers.get("lines"):
            talk.say(table(lines))
        goes_on = f"; v{short(done.previous)} goes on serving" if done.previous else ""
        raise SlipwayError(f"v{short(proven.version)} was not released: {done.reason}{goes_on}")
