"""The record of one run: `.slipway/runs/<id>/run.json`.

Written when the run begins and again whenever it got further, so that a run that failed, was
interrupted or killed says as much as it can. What Prefect knows about a run is a hint; this
file and the store's ledger are kept.
"""

import json
import os
import secrets
import threading
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from flows.git import NOT_ASKED, GitState
from flows.parsing import parse

RUNS = Path(".slipway/runs")

RunState = Literal["running", "completed", "failed", "interrupted"]


@dataclass(frozen=True)
class StageOutcome:
    """What became of one stage."""

    stage: str = "?"
    """DVC's name for it: `quantize@flights-int8-static`."""
    state: str = "?"
    """`not run`, `running`, `ran`, `skipped`, `failed` or `stopped`."""
    why: tuple[str, ...] = ()
    """What made it stale."""
    from_cache: bool = False
    """Skipped, as DVC's run-cache held the result of these inputs."""
    started_at: str | None = None
    seconds: float | None = None
    error: str | None = None
    """The stage's own message."""

    @property
    def name(self) -> str:
        """Its name without the pipeline: `quantize`."""
        return self.stage.partition("@")[0]

    def to_dict(self) -> dict[str, Any]:
        """Return what there is to say, in the form of run.json."""
        return {key: value for key, value in asdict(self).items() if value not in (None, (), False)}


@dataclass(frozen=True)
class GateResult:
    """One measure of one precision, and what it was held to."""

    gate: str = "?"
    measured: float | None = None
    limit: float | None = None
    bound: str = ""
    verdict: str = "?"
    precision: str = ""


@dataclass(frozen=True)
class HostAddress:
    """Where a host of the fleet is asked."""

    name: str = ""
    url: str = ""


@dataclass(frozen=True)
class ReleaseResult:
    """What the release did, as slipway.fleet.release tells it."""

    model: str | None = None
    fleet: str | None = None
    version: str | None = None
    previous: str | None = None
    decision: str = ""
    reason: str = ""
    serial: int | None = None
    started_at: str | None = None
    seconds: float | None = None
    hosts: tuple[HostAddress, ...] = ()
    steps: tuple[str, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)
    """All that was measured; flows.report reads what it knows of it."""


@dataclass(frozen=True)
class Run:
    """What a run did so far: the content of run.json."""

    run: str = ""
    """Its id; ids sort by time."""
    pipeline: str = ""
    fleet: str | None = None
    started_at: str = ""
    state: str = ""
    finished_at: str | None = None
    stages: tuple[StageOutcome, ...] = ()
    version: str | None = None
    precision: str | None = None
    gates: tuple[GateResult, ...] = ()
    published: str | None = None
    """What publishing did: `new` or `kept`, None when it was not reached."""
    release: ReleaseResult | None = None
    hosts: tuple[HostAddress, ...] = ()
    environment: tuple[str, ...] = ()
    """How what was installed differs from requirements.lock."""
    git: GitState = NOT_ASKED
    prefect_flow_run: str | None = None
    """The run's id on the Prefect server, None outside of Prefect."""
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of run.json."""
        return asdict(self) | {
            "stages": [stage.to_dict() for stage in self.stages],
            "git": self.git.to_dict(),
        }


class Record:
    """A run's record on disk, which grows with the run."""

    def __init__(self, root: Path, run: Run) -> None:
        """Take the project's root and what is known so far."""
        self.root, self.run = root, run
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where this run's record and logs lie."""
        return self.root / RUNS / self.run.run

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
        stages = tuple(
            replace(stage, state="stopped") if stage.state == "running" else stage
            for stage in self.run.stages
        )
        ended = replace(self.run, state=state, error=error, finished_at=now(), stages=stages)
        self.note(ended)

    def _save(self, run: Run) -> None:
        """Write run.json whole, and point `latest` at this run."""
        self.run = run
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / ".run.json.new"
        aside.write_text(json.dumps(run.to_dict(), indent=2) + "\n", "utf-8")
        aside.replace(self.folder / "run.json")
        link = self.folder.with_name(".latest.new")
        link.unlink(missing_ok=True)
        link.symlink_to(run.run)
        os.replace(link, self.folder.with_name("latest"))


def begin(root: Path, pipeline: str, fleet: str | None, flow_run: str | None = None) -> Record:
    """Open the record of a run that starts now."""
    id_ = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    begun = Run(id_, pipeline, fleet, now(), state="running", prefect_flow_run=flow_run)
    record = Record(root, begun)
    record.note(begun)
    return record


def find_killed(root: Path) -> Record | None:
    """Open the record of the run before, if it was killed before it could close it."""
    try:
        content = json.loads((root / RUNS / "latest/run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    run = parse(Run, content)
    # what another version of this program wrote would be cut down to what this one knows
    ours = run.run and content.keys() <= vars(run).keys()
    return Record(root, run) if ours and run.state == "running" else None


def now() -> str:
    """Return the time of day in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
