"""What the runner of a stage notes of it, wherever the record of the run is kept.

    a flow runs the stage    beside the flow's record; the flow takes it over when DVC is done
    `dvc repro`              in a record of its own, one for each DVC process and pipeline
    neither                  nowhere: somebody tries a stage

A record that cannot be written costs only itself. Nothing in here decides a byte of an output.
"""

import fcntl
import hashlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.processes.marks import ProcessMark, first_without
from slipway.runs import record
from slipway.runs.git import git_state
from slipway.runs.gpu import GpuMeter
from slipway.runs.inputs import read_inputs
from slipway.runs.parsing import parse
from slipway.runs.record import RECORD, RUNS, Record
from slipway.runs.run import DVC_REPRO, GateResult, Run, StageOutcome
from slipway.runs.usage import measure

RUN = "SLIPWAY_RUN"
"""Set by a flow for the stages of its run: the run's id. No dependency of a stage."""

DVC_STAGE = "DVC_STAGE"
"""Set by DVC for every command that it runs, and for no other process."""

MAY_PASS = os.EX_TEMPFAIL
"""The exit code of a stage that asked for something that did not answer, and may later."""

RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4,16}")


@dataclass(frozen=True)
class Results:
    """What the outputs of one stage say about the run as a whole."""

    version: str | None = None
    precision: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    gates: tuple[GateResult, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    """Of each source."""


NOTHING = Results()

Keep = Callable[[StageOutcome, Results], None]


class Attempt:
    """One stage that runs in this process, from its first to its last moment."""

    def __init__(self, stage: str, keep: Keep | None, *, by_itself: bool) -> None:
        """Take DVC's name of the stage and where its outcome is kept; None: nowhere.

        `by_itself`: no flow is there that knows what made the stage stale, and reads its results.
        """
        self._keep, self._by_itself, self.gpu = keep, by_itself, GpuMeter()
        self._began_s = time.monotonic()
        self._outcome = StageOutcome(stage, "running", started_at=record.now())
        self._note()

    def explain(self, why: Callable[[], tuple[str, ...]]) -> None:
        """Note what made the stage stale, where nobody else does."""
        if self._keep is None or not self._by_itself:
            return
        try:
            self._outcome = replace(self._outcome, why=why())
        except Exception as error:  # DVC's own, on its own files: no reason to stop
            sys.stderr.write(f"why this stage runs is not known: {error}\n")
        self._note()

    def end(
        self,
        code: int,
        error: str | None = None,
        *,
        outs: Mapping[str, str] | None = None,
        results: Callable[[], Results] = lambda: NOTHING,
    ) -> None:
        """Note how the stage ended; `results` is asked only where no flow reads them itself."""
        self._outcome = replace(
            self._outcome,
            state="failed" if code else "ran",
            seconds=round(time.monotonic() - self._began_s, 2),
            exit=exit_words(code),
            error=error,
            usage=measure(self.gpu.stop()),
            outs=dict(outs or {}),
        )
        self._note(self._read(results) if self._by_itself else NOTHING)

    def _read(self, results: Callable[[], Results]) -> Results:
        try:
            return results()
        except (OSError, ValueError, SlipwayError) as error:
            sys.stderr.write(f"what this stage came to could not be read: {error}\n")
            return NOTHING

    def _note(self, results: Results = NOTHING) -> None:
        if self._keep is None:
            return
        try:
            self._keep(self._outcome, results)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"the record of this run could not be written: {error}\n")


def starter() -> ProcessMark | None:
    """Find the DVC process that started this one; None where somebody tries a stage."""
    return first_without(DVC_STAGE) if DVC_STAGE in os.environ else None


def begin(root: Path, pipeline: str, stage: str) -> Attempt:
    """Note that a stage starts now, where its run is recorded."""
    keep = _keeper(root, pipeline, os.environ)
    return Attempt(stage, keep, by_itself=RUN not in os.environ)


def exit_words(code: int) -> str:
    """Say how a process ended: its exit code, or the signal that ended it.

    A shell gives 128 and the signal's number for a command that a signal ended.
    """
    number = -code if code < 0 else code - 128
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {code}"


def noted_by_runner(folder: Path, stage: str) -> StageOutcome | None:
    """Read what the runner of a stage noted for the flow whose folder this is."""
    try:
        content = json.loads(_note_of(folder, stage).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return parse(StageOutcome, content)


def _note_of(folder: Path, stage: str) -> Path:
    return folder / "stages" / f"{stage}.json"


def _keeper(root: Path, pipeline: str, environ: Mapping[str, str]) -> Keep | None:
    """Choose where the outcome goes."""
    run = environ.get(RUN)
    if run is not None:
        return _beside_the_flows(root / RUNS / run) if RUN_ID.fullmatch(run) else None
    if (dvc := starter()) is None:
        return None

    def keep(outcome: StageOutcome, results: Results) -> None:
        note_under_dvc(root, dvc, pipeline, outcome=outcome, results=results)

    return keep


def _beside_the_flows(folder: Path) -> Keep:
    def keep(outcome: StageOutcome, results: Results) -> None:
        path = _note_of(folder, outcome.stage)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.new")
        aside.write_text(json.dumps(outcome.to_dict(), indent=2) + "\n", "utf-8")
        aside.replace(path)

    return keep


def note_under_dvc(
    root: Path, dvc: ProcessMark, pipeline: str, *, outcome: StageOutcome, results: Results
) -> None:
    """Note a stage in the record of the DVC process that runs it, opened with its first one."""
    with _alone(root):
        kept = _find(root, dvc, pipeline) or _begin(root, dvc, pipeline)
        run = kept.run
        running = outcome.state == "running"
        before = tuple(stage for stage in run.stages if stage.stage != outcome.stage)
        kept.note(
            replace(
                with_results(run, results),
                stages=(*before, outcome),
                state={"running": "running", "failed": "failed"}.get(outcome.state, "completed"),
                finished_at=None if running else record.now(),
                error=outcome.error,
            )
        )


def with_results(run: Run, results: Results) -> Run:
    """Add to a run what a stage made known of it."""
    sources = {
        name: replace(pin, rows=results.rows.get(name, pin.rows))
        for name, pin in run.inputs.sources.items()
    }
    return replace(
        run,
        version=results.version or run.version,
        precision=results.precision or run.precision,
        metrics=dict(results.metrics) or run.metrics,
        gates=results.gates or run.gates,
        inputs=replace(run.inputs, sources=sources),
    )


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep the runners of other DVC processes away; a lock that its holder's end gives back."""
    folder = root / RUNS
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _suffix(dvc: ProcessMark, pipeline: str) -> str:
    """Name the record by the process, so that the next stage finds it."""
    what = f"{dvc.host} {dvc.boot} {dvc.pid} {dvc.start_ticks} {pipeline}"
    return hashlib.sha256(what.encode()).hexdigest()[:12]


def _find(root: Path, dvc: ProcessMark, pipeline: str) -> Record | None:
    for path in (root / RUNS).glob(f"*-{_suffix(dvc, pipeline)}/{RECORD}"):
        return Record(root, parse(Run, json.loads(path.read_text("utf-8"))))
    return None


def _begin(root: Path, dvc: ProcessMark, pipeline: str) -> Record:
    return record.begin(
        root,
        Run(
            run=record.new_id(root, _suffix(dvc, pipeline)),
            pipeline=pipeline,
            started_by=record.at_terminal(DVC_REPRO),
            git=git_state(root),
            inputs=read_inputs(root, pipeline),
            process=dvc,
        ),
    )
