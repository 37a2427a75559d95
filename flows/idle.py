"""Deliver a pipeline that has nothing to do, without Prefect.

To import Prefect and start its API costs four times what it takes to see that nothing changed.
So it is looked at first, the cheapest things before the dear ones. Whatever would have to be
done, and whatever cannot be told, is the flow's: this changes nothing and says no word of it.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from flows import acceptance, publish, summary
from flows.alive import pid_files
from flows.closing import finish
from flows.dag import remote, seals, stages, workspace
from flows.dag.stages import Stage
from flows.environment import FLOW_RUN
from flows.promotion import Promotion
from flows.talk import Talk
from slipway.bundle.format import short
from slipway.bundle.manifest import payload_version
from slipway.config import Config
from slipway.errors import SlipwayError
from slipway.fleet.controller import Controller
from slipway.fleet.inventory import NO_CREDENTIALS, Fleet
from slipway.fleet.keys import find_keys
from slipway.fleet.launch.launcher import Launcher
from slipway.fleet.launch.local import LOCAL
from slipway.fleet.release import serves
from slipway.runs import record
from slipway.runs.attempt import with_results
from slipway.runs.git import git_state
from slipway.runs.inputs import read_inputs
from slipway.runs.parsing import parse
from slipway.runs.record import Record
from slipway.runs.run import HostAddress, ReleaseResult, Run, StageOutcome
from slipway.store.bundles import bundle_exists
from tasks import installed


@dataclass(frozen=True)
class Delivery:
    """What is to be delivered, and where."""

    root: Path
    pipeline: str
    config: Config
    fleet: Fleet | None
    """None: build only."""
    launcher: Launcher = LOCAL

    @property
    def payload(self) -> Path:
        """Where the DAG leaves the payload."""
        return self.root / "models" / self.pipeline / "payload"


def deliver(asked: Delivery) -> bool:
    """Record and tell a run that has nothing to do; return False where the flow has to run."""
    started_at, talk = record.now(), Talk()
    if _is_prefects(asked.root):
        return False
    try:
        with workspace.only_run(asked.root, talk.say):
            found = _everything_unchanged(asked)
            if found is None:
                return False
            entry = _conclude(asked, found, started_at, talk)
    except (SlipwayError, OSError):  # the flow meets it again, and has a record to keep it in
        return False
    credentials = asked.fleet.credentials if asked.fleet else NO_CREDENTIALS
    print(summary.summary(entry.run, entry.report, asked.payload, credentials), flush=True)
    return True


def _is_prefects(root: Path) -> bool:
    """Tell whether a Prefect server awaits this run, or to be told of one that died here."""
    if os.environ.get(FLOW_RUN):
        return True
    died = any(not held.locked for held in pid_files.read(root).values())
    return died and bool(os.environ.get("PREFECT_API_URL"))


def _everything_unchanged(asked: Delivery) -> list[Stage] | None:
    """Return the stages if none has to run and their version serves; else None.

    The order is that of the price: files, hosts (10 ms), DVC (a second).
    """
    if record.find_killed(asked.root) or workspace.leftovers(asked.root):
        return None
    if not remote.is_pushed(asked.root):
        return None
    if asked.fleet is not None and not _serves(asked, asked.fleet):
        return None
    if acceptance.look(asked.root, asked.pipeline, asked.config.ingest.sources) is not None:
        return None
    found = stages.read_stages(asked.root, asked.pipeline)
    if any(stage.stale or seals.damage(asked.root, stage.outs) for stage in found):
        return None
    return found


def _serves(asked: Delivery, fleet: Fleet) -> bool:
    """Tell whether the payload that was built last is in the store and serves on every host."""
    if not asked.payload.is_dir():
        return False
    version, controller = payload_version(asked.payload), _controller(asked, fleet)
    return bundle_exists(controller.store, asked.pipeline, version) and serves(controller, version)


def _controller(asked: Delivery, fleet: Fleet) -> Controller:
    key = find_keys(asked.root).release
    return Controller.open(fleet, asked.pipeline, key, Talk().say)


def _conclude(asked: Delivery, found: list[Stage], started_at: str, talk: Talk) -> Record:
    """Write the record that the flow would have written; raise what it should meet itself."""
    proven = publish.read_proven(asked.root, asked.pipeline)
    differing = installed.check(asked.root, asked.config.environment, asked.pipeline)
    if differing:
        talk.say(installed.one_line(differing))
    talk.unchanged([stage.title for stage in found])
    fleet = asked.fleet.name if asked.fleet else None
    entry = record.begin(asked.root, Run(pipeline=asked.pipeline, fleet=fleet))
    try:
        entry.note(
            replace(
                entry.run,
                started_at=started_at,
                environment=tuple(map(str, differing)),
                git=git_state(asked.root),
                inputs=read_inputs(asked.root, asked.pipeline),
                stages=tuple(StageOutcome(stage.address, "skipped") for stage in found),
            )
        )
        results = publish.results_of(asked.root, asked.pipeline, proven)
        entry.note(with_results(entry.run, results))
        if asked.fleet is not None:
            _confirm(asked, asked.fleet, entry, proven.version)
    except BaseException:
        finish(entry, "interrupted", "something changed while it was looked at", talk.say)
        raise
    finish(entry, "completed", None, talk.say)
    return entry


def _confirm(asked: Delivery, fleet: Fleet, entry: Record, version: str) -> None:
    """Have the release say that there is nothing to release; the ledger keeps that, too."""
    controller = replace(_controller(asked, fleet), run=entry.run.run)
    if not serves(controller, version):
        raise SlipwayError(f"v{short(version)} does not serve on {fleet.name} any more")
    done = Promotion(controller, asked.launcher).release(version, asked.config.release)
    hosts = tuple(HostAddress(host.name, host.url) for host in fleet.hosts)
    release = parse(ReleaseResult, done.to_dict())
    entry.note(replace(entry.run, published="kept", hosts=hosts, release=release))
    if not done.ok:
        raise SlipwayError(done.reason)
