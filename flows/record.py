"""The record of one run: `.slipway/runs/<id>/run.json` and `report.html`.

Written when the run begins and again whenever it got further, so that a run that failed, was
interrupted or killed says as much as it can. What Prefect knows about a run is a hint; this
file and the store's ledger are kept.
"""

import json
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

RUNS = Path(".slipway/runs")

State = Literal["running", "completed", "failed", "interrupted"]


@dataclass
class Record:
    """What a run did so far, in the form of run.json."""

    root: Path
    run: str
    pipeline: str
    fleet: str | None
    started_at: str
    state: State = "running"
    finished_at: str | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    version: str | None = None
    precision: str | None = None
    gates: list[dict[str, Any]] = field(default_factory=list)
    published: str | None = None
    """What publishing did: `new` or `kept`, None when it was not reached."""
    release: dict[str, Any] | None = None
    hosts: list[dict[str, str]] = field(default_factory=list)
    git: dict[str, Any] = field(default_factory=dict)
    prefect_flow_run: str | None = None
    """The run's id on the Prefect server, None outside of Prefect."""
    error: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def folder(self) -> Path:
        """Where this run's record and logs lie."""
        return self.root / RUNS / self.run

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.folder / "report.html"

    def to_dict(self) -> dict[str, Any]:
        """Return the content of run.json."""
        inside = ("root", "_lock")
        return {name: value for name, value in vars(self).items() if name not in inside}

    def note_stages(self, stages: list[dict[str, Any]]) -> None:
        """Take over what became of the stages so far; they report from threads of their own."""
        with self._lock:
            self.stages = stages
            self.save()

    def save(self) -> None:
        """Write run.json whole, and point `latest` at this run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / ".run.json.new"
        aside.write_text(json.dumps(self.to_dict(), indent=2) + "\n", "utf-8")
        aside.replace(self.folder / "run.json")
        link = self.folder.with_name(".latest.new")
        link.unlink(missing_ok=True)
        link.symlink_to(self.run)
        os.replace(link, self.folder.with_name("latest"))

    def finish(self, state: State, error: str | None, say: Callable[[str], None]) -> None:
        """Close the record and write the report; a report that fails costs only itself."""
        from flows.report.page import write_report

        for stage in self.stages:
            if stage["state"] == "running":
                stage["state"] = "stopped"
        self.state, self.error, self.finished_at = state, error, now()
        self.save()
        try:
            write_report(self.root, self.to_dict(), self.report)
        except Exception as problem:  # the run's own outcome is what must be told
            say(f"the report could not be written: {type(problem).__name__}: {problem}")


def begin(root: Path, pipeline: str, fleet: str | None) -> Record:
    """Open the record of a run that starts now; ids sort by time."""
    run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    record = Record(root, run, pipeline, fleet, started_at=now())
    record.save()
    return record


def close_killed(root: Path, say: Callable[[str], None]) -> None:
    """Finish the record of the run before, if it was killed before it could do so itself."""
    try:
        content = json.loads((root / RUNS / "latest/run.json").read_text("utf-8"))
        if content["state"] == "running":
            Record(root, **content).finish("interrupted", "killed before it was done", say)
    except (OSError, ValueError, TypeError, KeyError):
        return  # nothing there, or written by another version of this program


def now() -> str:
    """Return the time of day in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
