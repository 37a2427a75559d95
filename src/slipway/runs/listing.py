"""Find the runs of a project, whichever version of this program wrote their records."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.processes.marks import lives
from slipway.runs.parsing import parse
from slipway.runs.record import LATEST, RECORD, RUNS, stopped
from slipway.runs.run import Run
from slipway.wording import moment

NEAR = 5
"""Ids named in a message; more are in the list."""


@dataclass(frozen=True)
class Filter:
    """Which runs are asked for; None asks for all."""

    pipeline: str | None = None
    state: str | None = None
    since: datetime | None = None


@dataclass(frozen=True)
class StageCounts:
    """How many stages of a run came to what."""

    ran: int = 0
    skipped: int = 0
    failed: int = 0


def read_runs(root: Path) -> list[Run]:
    """Read every record, the newest run first; one that is no record is left out."""
    found = []
    for path in (root / RUNS).glob(f"*/{RECORD}"):
        if path.parent.is_symlink():
            continue
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            content = {}
        run = parse(Run, content)
        # its folder names a run, whatever became of the file in it
        found.append(as_it_is(replace(run, run=path.parent.name)))
    return sorted(found, key=lambda run: run.run, reverse=True)


def as_it_is(run: Run) -> Run:
    """Call a run interrupted that says it is running while its process is gone.

    It was killed before it could say so itself. The file is left as it was written.
    """
    if run.state != "running" or run.process is None or lives(run.process) is not False:
        return run
    return replace(run, state="interrupted", stages=stopped(run.stages))


def matching(runs: Sequence[Run], wanted: Filter) -> list[Run]:
    """Choose the runs that are asked for, in the order in which they are given."""
    return [
        run
        for run in runs
        if wanted.pipeline in (None, run.pipeline)
        and wanted.state in (None, run.state)
        and (wanted.since is None or _since(run, wanted.since))
    ]


def _since(run: Run, earliest: datetime) -> bool:
    begun = moment(run.started_at)
    if begun is None:
        return False
    return (begun if begun.tzinfo else begun.replace(tzinfo=UTC)) >= earliest


def find_run(runs: Sequence[Run], text: str) -> Run:
    """Return the one run whose id begins with `text`, or the newest for `latest`."""
    if not runs:
        raise SlipwayError(f"no run is recorded in {RUNS}: start one with `slipway run PIPELINE`")
    if text == LATEST:
        return runs[0]
    found = [run for run in runs if run.run.startswith(text)]
    if len(found) == 1:
        return found[0]
    if not found:
        near = ", ".join(run.run for run in runs[:NEAR])
        raise SlipwayError(f"no run begins with {text!r}; the newest: {near}; all: `slipway runs`")
    named = ", ".join(run.run for run in found[:NEAR])
    raise SlipwayError(f"{len(found)} runs begin with {text!r}: {named}; give more of the id")


def counts(run: Run) -> StageCounts:
    """Count the stages by what became of them; a stopped one did not end well either."""
    seen = Counter(stage.state for stage in run.stages)
    return StageCounts(seen["ran"], seen["skipped"], seen["failed"] + seen["stopped"])


def took_s(run: Run, now: datetime) -> float | None:
    """Return how long a run took, or has been running; None where nobody noted its end."""
    begun = moment(run.started_at)
    ended = now if run.state == "running" else moment(run.finished_at)
    if begun is None or ended is None or (begun.tzinfo is None) != (ended.tzinfo is None):
        return None
    return max(0.0, (ended - begun).total_seconds())  # clocks are set back
