"""A run's record on disk: `.slipway/runs/<id>/run.json`.

Written when the run begins and again whenever it got further, so that a run that failed, was
interrupted or killed says as much as it can. What Prefect knows about a run is a hint; this
file and the store's ledger are kept.
"""

import getpass
import json
import os
import re
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slipway.processes.marks import mark_of
from slipway.runs.parsing import parse
from slipway.runs.run import DVC_REPRO, Run, RunState, StageOutcome, StartedBy
from slipway.state import settled
from slipway.wording import moment

RUNS = Path(".slipway/runs")
LATEST = "latest"
RECORD = "run.json"

STAMPED = "%Y%m%d-%H%M%S"
STAMP = re.compile(r"[0-9]{8}-[0-9]{6}(?=-)")
SECOND = len("20261130-100000")
"""So much of a run's id says when it began."""


class Record:
    """A run's record on disk, which grows with the run."""

    def __init__(self, root: Path, run: Run) -> None:
        """Take the project's root and what is known so far."""
        self.root, self.run = root, run
        self._opened_s = time.monotonic()
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where this run's record and logs lie."""
        return settled(self.root / RUNS / self.run.run)

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.folder / "report.html"

    def note(self, run: Run) -> None:
        """Take over what the run did since."""
        with self._lock:
            self._save(run)

    def note_stages(self, stages: tuple[StageOutcome, ...]) -> None:
        """Take over what became of the stages so far; they report from threads of their own."""
        with self._lock:
            self._save(replace(self.run, stages=stages))

    def close(self, state: RunState, error: str | None = None) -> None:
        """Note how the run ended, and when."""
        ran_s = time.monotonic() - self._opened_s
        at = ended_at(self.run.started_at, ran_s, datetime.now(UTC))
        ended = replace(self.run, state=state, error=error, finished_at=at)
        self.note(replace(ended, stages=stopped(self.run.stages)))

    def _save(self, run: Run) -> None:
        """Write run.json whole, and point `latest` at this run, unless a later one has begun."""
        self.run = run
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".{RECORD}.new"
        aside.write_text(json.dumps(run.to_dict(), indent=2) + "\n", "utf-8")
        aside.replace(self.folder / RECORD)
        if self._is_latest():
            self._point_here(run)

    def _is_latest(self) -> bool:
        """Tell whether no later run has begun: what is noted of an older one leaves the link."""
        try:
            named = os.readlink(self.folder.with_name(LATEST))
            return named[:SECOND] <= self.run.run[:SECOND]
        except OSError:
            return True

    def _point_here(self, run: Run) -> None:
        link = self.folder.with_name(f".{LATEST}.{os.getpid()}.new")
        link.unlink(missing_ok=True)
        link.symlink_to(run.run)
        os.replace(link, self.folder.with_name(LATEST))


def begin(root: Path, run: Run) -> Record:
    """Open the record of a run that starts now, in this process unless `run` names another."""
    begun = replace(
        run,
        run=run.run or new_id(root, secrets.token_hex(2)),
        started_at=now(),
        state="running",
        started_by=run.started_by if run.started_by.kind else at_terminal(),
        process=run.process or mark_of(os.getpid()),
    )
    record = Record(root, begun)
    record.note(begun)
    return record


def new_id(root: Path, suffix: str, at: datetime | None = None) -> str:
    """Make the id of a run that starts now: it sorts after all others, whatever the clock says.

    The newest run is found by its id, so a clock that was set back must not hide one.
    """
    names = [path.parent.name for path in (root / RUNS).glob(f"*/{RECORD}")]
    last = max((found[0] for name in names if (found := STAMP.match(name))), default="")
    stamp = (at or datetime.now(UTC)).strftime(STAMPED)
    if last > stamp:
        with suppress(ValueError):  # digits that are no time: not one of ours
            stamp = (datetime.strptime(last, STAMPED) + timedelta(seconds=1)).strftime(STAMPED)
    return f"{stamp}-{suffix}"


def ended_at(started_at: str | None, ran_s: float, at: datetime) -> str:
    """Return when a run ended: never before it began, though the clock was set back meanwhile."""
    begun = moment(started_at)
    if begun is not None and begun.tzinfo is not None and at < begun:
        at = begun + timedelta(seconds=ran_s)
    return at.isoformat(timespec="milliseconds")


def at_terminal(kind: str = "terminal") -> StartedBy:
    """Name the person that this process works for."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may know its user by number only
        user = str(os.getuid())
    return StartedBy(kind, f"{user}@{os.uname().nodename}")


def find_killed(root: Path) -> Record | None:
    """Open the record of the flow run before, if it was killed before it could close it.

    To be called by the only flow that runs in a checkout. What `dvc repro` keeps is left
    alone: it may be running at this moment.
    """
    for path in sorted((root / RUNS).glob(f"*/{RECORD}"), reverse=True):
        if path.parent.is_symlink():
            continue
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        run = parse(Run, content)
        if run.started_by.kind != DVC_REPRO:
            # what another version of this program wrote would be cut down to what this one knows
            ours = run.run and content.keys() <= vars(run).keys()
            return Record(root, run) if ours and run.state == "running" else None
    return None


def find_flow_run(root: Path, flow_run: str) -> Record | None:
    """Open the record of the run that a Prefect server knows by this id."""
    for path in sorted((root / RUNS).glob(f"*/{RECORD}"), reverse=True):
        try:
            text = path.read_text("utf-8")
            if flow_run not in text or path.parent.is_symlink():
                continue
            run = parse(Run, json.loads(text))
        except (OSError, ValueError):
            continue
        if run.prefect_flow_run == flow_run:
            return Record(root, run)
    return None


def stopped(stages: tuple[StageOutcome, ...]) -> tuple[StageOutcome, ...]:
    """Call those stopped that were still running when their run ended."""
    return tuple(replace(s, state="stopped") if s.state == "running" else s for s in stages)


def now() -> str:
    """Return the time of day in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
