"""Run the stale stages of a pipeline, each as a Prefect task that starts DVC under the supervisor.

Prefect orders, logs and shows; DVC still decides: a stage whose inputs turn out the same is
left alone, and one that has run on these inputs before comes from the run-cache.
"""

import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prefect import task
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Failed

from flows import environment
from flows.artifacts import StageProgress
from flows.binding import worker_gone
from flows.dag import opening, seals, stages
from flows.dag.remote import Remote
from flows.dag.stages import Stage
from flows.dag.tree import Tree
from flows.patience import PAUSES_S
from flows.talk import StageTalk, Talk
from slipway import full_disk
from slipway.errors import SlipwayError
from slipway.gpu.slots import WAITING
from slipway.runs.attempt import MAY_PASS, exit_words, noted_by_runner
from slipway.runs.record import now
from slipway.runs.run import StageOutcome
from tasks import sums
from tasks.timeouts import too_long

RESTORED = "is cached - skipping run"
UNCHANGED = "didn't change, skipping"
"""DVC 3.67's own words; tests/system/test_deliver.py notices if they change."""

SAY_EVERY_S = 5.0
"""Between two lines of the countdown."""

TICK_S = 0.05
EXITED = re.compile(r"failed to run: .*, exited with (-?[0-9]+)$")
"""DVC's, of a command that failed."""

SAID = "slipway: "
"""Begins what a stage says of its own failure."""

TAIL_LINES = 20
"""Shown of a stage that ended without a message of its own."""

StageState = Literal["ran", "skipped", "failed", "stopped", "running", "not run"]


class StageRuns:
    """One run of the stale stages; `stop` ends all that is running."""

    def __init__(
        self,
        root: Path,
        folder: Path,
        talk: Talk,
        note: Callable[[tuple[StageOutcome, ...]], None],
        *,
        remote: Remote | None = None,
    ) -> None:
        """Take the project's root, the run's folder, and who is told of every change."""
        self.outcomes: dict[str, StageOutcome] = {}
        self._root, self._folder, self._talk, self._note = root, folder, talk, note
        self._remote = remote
        self._logs = folder / "logs"
        self._trees: set[Tree] = set()
        self._damaged: set[str] = set()
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def run(self, pipeline: str) -> None:
        """Bring a pipeline up to date; raise SlipwayError with the failed stage's message."""
        everything = self._read(pipeline)
        stale = stages.to_run(everything)
        if stale and self._remote and self._remote.bring_in(stale):
            everything = self._read(pipeline)
            stale = stages.to_run(everything)
        fresh = [stage for stage in everything if stage not in stale]
        self.outcomes = {
            stage.address: StageOutcome(stage.address, "not run", stage.stale)
            if stage in stale
            else StageOutcome(
                stage.address, "skipped", stage.stale, outs=sums.seals(stage.outs, self._root)
            )
            for stage in everything
        }
        self._talk.unchanged([stage.title for stage in fresh])
        self._logs.mkdir(parents=True, exist_ok=True)
        self._note(tuple(self.outcomes.values()))
        try:
            self._submit(stale)
        finally:
            self.stop()
            if stale:
                stages.put_in_order(self._root)
        if errors := [o.error for o in self.outcomes.values() if o.error]:
            message = "\n".join(errors)
            full = full_disk.explain_text(errors, self._root / ".dvc", self._folder)
            known = full is None or full_disk.TO_DO in message
            raise SlipwayError(message if known else f"{message}\n  {full}")

    def _read(self, pipeline: str) -> list[Stage]:
        return [self._with_damage(s) for s in stages.read_stages(self._root, pipeline)]

    @property
    def done(self) -> bool:
        """Whether no stage is left to run."""
        return all(each.state in ("ran", "skipped") for each in self.outcomes.values())

    def stop(self) -> None:
        """End every stage that runs, with all of its processes, and start no other."""
        with self._lock:
            self._stopped.set()
            running = list(self._trees)
        for tree in running:
            tree.stop_gently()
        self._count_down(running)
        for tree in running:
            tree.stop()
            tree.wait()

    def _count_down(self, running: list[Tree]) -> None:
        """Wait for stages that have something to save, and say how long that may take."""
        began = time.monotonic()
        said = math.inf
        while left := [tree.patience_s for tree in running if tree.running()]:
            if worker_gone():
                return
            still_s = max(left) - (time.monotonic() - began)
            if still_s <= 0:
                return
            if still_s < said - SAY_EVERY_S:
                said = still_s
                self._talk.say(f"stopping: up to {still_s:.0f} s to save what was done")
            time.sleep(TICK_S)

    def _submit(self, stale: list[Stage]) -> None:
        """Hand the stages to Prefect in order, and wait for all of them."""
        futures: dict[str, PrefectFuture[Any]] = {}
        before = stages.wait_for(stale)
        while waiting := [stage for stage in stale if stage.address not in futures]:
            for stage in waiting:
                if before[stage.address] <= futures.keys():
                    named = run_stage.with_options(name=stage.address, task_run_name=stage.address)
                    upstream = [futures[address] for address in before[stage.address]]
                    # mypy takes the first overload, which has no wait_for (prefect 3.8)
                    futures[stage.address] = named.submit(  # type: ignore[call-overload]
                        self, stage, wait_for=upstream
                    )
        for stage in stale:
            futures[stage.address].wait()
            self._account_for(stage, futures[stage.address].state)

    def _account_for(self, stage: Stage, state: State[Any]) -> None:
        """Tell of a stage that did not get to run; an error around it is the run's error."""
        outcome = self.outcomes[stage.address]
        if outcome.state in ("not run", "running"):
            if self._stopped.is_set():
                if outcome.state == "running":  # it was told to, just before it began its work
                    self.outcomes[stage.address] = outcome = replace(outcome, state="stopped")
            elif state.is_failed() or state.is_crashed():
                said = f"{stage.title}: {state.message}"
                outcome = replace(outcome, state="failed", error=said)
                self.outcomes[stage.address] = outcome
            with self._talk.stage(stage.title) as talk:
                talk.done(outcome.state)

    def stage(self, stage: Stage, log: Any) -> StageOutcome:
        """Run one stage; called by its Prefect task."""
        outcome = replace(self.outcomes[stage.address], state="running", started_at=now())
        self._keep(outcome)
        with self._talk.stage(stage.title) as talk:
            if self._remote:
                self._remote.restore(stage.address)
            code, lines = self._supervise_patiently(stage, talk, log)
            gone: list[int] = []
            while code and (pids := opening.blockers(lines)) not in ([], gone):
                # a `dvc repro` beside this run
                opening.wait_for_end(pids, partial(self._say_of, stage), self._look)
                gone = [pid for pid in pids if not opening.is_there(pid)]
                code, lines = self._supervise_patiently(stage, talk, log)
            if code == 0 and (found := seals.damage(self._root, stage.outs)):
                # what the stage made is sealed by it: this came out of DVC's cache
                outcome = replace(outcome, why=(*outcome.why, *found))
                self._talk.say(f"{stage.title}: DVC's cache gave back damage ({found[0]})")
                code, lines = self._supervise(stage, talk, log, again=True)
            state = self._judge(code, lines)
            failed = state == "failed"
            noted = noted_by_runner(self._folder, stage.address) or outcome
            outcome = replace(
                outcome,
                state=state,
                seconds=round(talk.seconds, 2),
                from_cache=any(RESTORED in line for line in lines),
                exit=noted.exit or exit_seen(lines),
                error=message_of(stage.title, lines, self._log_of(stage)) if failed else None,
                usage=noted.usage,
                outs=sums.seals(stage.outs, self._root) if code == 0 else {},
            )
            talk.done("restored" if outcome.from_cache else state)
        self._keep(outcome)
        if self._remote and outcome.state == "ran":
            self._remote.push_soon(stage.address)
        return outcome

    def _supervise_patiently(
        self, stage: Stage, talk: StageTalk, log: Any
    ) -> tuple[int, list[str]]:
        """Run a stage again while it ends for want of something that did not answer."""
        for pause_s in PAUSES_S:
            code, lines = self._supervise(stage, talk, log, again=stage.address in self._damaged)
            if not code or exit_seen(lines) != exit_words(MAY_PASS) or self._stopped.is_set():
                return code, lines
            message = message_of(stage.title, lines, self._log_of(stage))
            self._talk.say(f"{message}; trying again in {pause_s:g} s")
            if self._stopped.wait(pause_s):
                return code, lines
        return self._supervise(stage, talk, log, again=stage.address in self._damaged)

    def _say_of(self, stage: Stage, text: str) -> None:
        self._talk.say(f"{stage.title}: {text}")

    def _look(self, seconds: float) -> None:
        """Sleep, unless the run is to stop."""
        if self._stopped.wait(seconds):
            raise SlipwayError("the run is stopping")

    def _keep(self, outcome: StageOutcome) -> None:
        """Note what became of a stage; the last note is the newest, whichever thread wrote it."""
        with self._lock:
            self.outcomes[outcome.stage] = outcome
            self._note(tuple(self.outcomes.values()))

    def _with_damage(self, stage: Stage) -> Stage:
        """Have a stage run that DVC takes to be up to date, if its outputs are damaged."""
        if stage.stale or not (found := seals.damage(self._root, stage.outs)):
            return stage
        self._damaged.add(stage.address)
        return replace(stage, stale=tuple(found))

    def _supervise(
        self, stage: Stage, talk: StageTalk, log: Any, *, again: bool
    ) -> tuple[int, list[str]]:
        """Start DVC on one stage and pass on what it says; return its exit code and lines.

        Run `again`, it neither believes dvc.lock nor the cache, from which damage goes first.
        """
        lines: list[str] = []
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item"]
        if again:
            seals.drop_damaged_objects(self._root, stage.address)
            command.append("--force")
        with (
            self._tree([*command, stage.address], stage.grace_s) as tree,
            _limited(stage, tree) as expired,
            StageProgress(stage.address) as progress,
            open(self._log_of(stage), "a") as file,
        ):
            for line in tree.lines():
                progress.heard(line)
                if not talk.heard(line):
                    lines.append(line)
                    log.info("%s", line)
                if line.startswith(WAITING):  # for a GPU that another stage has
                    self._talk.say(f"{stage.title}: {line}")
                print(line, file=file, flush=True)
            code = tree.wait()
        if code and expired.is_set() and stage.timeout_s is not None:
            # whatever it said when it was stopped, this is why
            own = [line for line in lines if not line.startswith((SAID, "ERROR: "))]
            lines = [*own, f"{SAID}{too_long(stage.timeout_s)}"]
        return code, lines

    @contextmanager
    def _tree(self, command: list[str], patience_s: float) -> Iterator[Tree]:
        with self._lock:
            if self._stopped.is_set():
                raise SlipwayError("the run is stopping")
            env = environment.of_stage(self._root, run=self._folder.name)
            tree = Tree(command, self._root, env, patience_s=patience_s)
            self._trees.add(tree)
        try:
            yield tree
        finally:
            tree.stop()
            tree.wait()
            with self._lock:
                self._trees.discard(tree)

    def _judge(self, code: int, lines: list[str]) -> StageState:
        if code:
            return "stopped" if self._stopped.is_set() else "failed"
        left_alone = any(UNCHANGED in line or RESTORED in line for line in lines)
        return "skipped" if left_alone else "ran"

    def _log_of(self, stage: Stage) -> Path:
        return self._logs / f"{stage.address}.log"


@contextmanager
def _limited(stage: Stage, tree: Tree) -> Iterator[threading.Event]:
    """Tell a stage to end that takes too long, with its grace; yield what is set by then."""
    expired = threading.Event()
    if stage.timeout_s is None:
        yield expired
        return

    def end() -> None:
        expired.set()
        tree.stop_gently()

    timer = threading.Timer(stage.timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


@task(persist_result=False)
def run_stage(build: StageRuns, stage: Stage) -> "StageOutcome | State[Any]":
    """Run one stage of the DAG; a failure carries the stage's own message."""
    log = get_run_logger()
    for reason in stage.stale:
        log.info("stale: %s", reason)
    outcome = build.stage(stage, log)
    if outcome.state in ("failed", "stopped"):
        return Failed(message=outcome.error or "stopped")
    return outcome


def exit_seen(lines: list[str]) -> str | None:
    """Take from DVC how a stage ended that could not say so itself."""
    found = [int(match[1]) for line in lines if (match := EXITED.search(line))]
    return exit_words(found[-1]) if found else None


def message_of(title: str, lines: list[str], log: Path) -> str:
    """Find what a failed stage said about its failure.

    Stages print `slipway: ...`, perhaps over several lines, and end; DVC then adds its own
    `ERROR: failed to reproduce`. One that crashed is quoted by its last lines.
    """
    ended = next((i for i, line in enumerate(lines) if line.startswith("ERROR: ")), len(lines))
    said = [i for i, line in enumerate(lines[:ended]) if line.startswith(SAID)]
    if said:
        message = "\n".join(lines[said[-1] : ended]).removeprefix(SAID).rstrip()
        return f"{message}\n  ({title}; its log: {log})"
    last = "\n  ".join(line for line in lines[-TAIL_LINES:] if line.strip())
    return f"{title} failed; its log ({log}) ends with:\n  {last}"
