"""Say what each part of a run came to, in plain sentences made from its numbers.

Pure. A sentence stands only on what is there: a part that has nothing to say returns an
empty text, never a guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flows.report.facts import Facts, History, Timings
from flows.report.panels import gate_results, label, numbers_of
from slipway.config import Config
from slipway.make.build import NOT_MEASURED, loss_in_words
from slipway.problem import Problem
from slipway.runs.run import ReleaseResult, Run, StageOutcome
from slipway.wording import count, day, score, scrub, sentence, share

BUILD_STAGES = {field.alias or name for name, field in Config.model_fields.items()} - {"release"}
BUILD_STAGES |= {"train"}  # each family has a section of its own
"""The stages that end with the payload: nothing was published when one of them stopped."""

Tone = Literal["good", "quiet", "bad"]


@dataclass(frozen=True)
class RunVerdict:
    """What came of a run: one line, a sentence, and the lines of a longer message."""

    tone: Tone
    title: str
    detail: str
    more: tuple[str, ...] = ()
    after: str = ""


def verdict(run: Run) -> RunVerdict:
    """Say what came of the run: where it stopped and why, or what it released."""
    error = scrub(run.error or "")
    if failed := _in_state(run, "failed"):
        reasons = [scrub(stage.error) for stage in failed if stage.error]
        text = "\n".join(reasons) or error or "the log of this stage holds the reason"
        return _explained(f"Stopped at {_names(run, failed)}", text, _untouched(failed))
    if run.state == "interrupted":
        stopped = _in_state(run, "stopped")
        where = f" at {_names(run, stopped)}" if stopped else ""
        return RunVerdict("bad", f"Interrupted{where}", "The next run goes on from what was done.")
    release = run.release or ReleaseResult()
    tone, title = _DECISIONS.get(release.decision, ("quiet", "Built, not released"))
    if error and tone != "bad":
        return _explained("Stopped", error)
    return RunVerdict(tone, title, sentence(scrub(release.reason)))


_DECISIONS: dict[str, tuple[Tone, str]] = {
    "first release": ("good", "Released: the first version"),
    "promoted": ("good", "Released by way of a canary"),
    "already serves": ("quiet", "Nothing new: this version already serves"),
    "rejected": ("bad", "Candidate rejected, the stable version goes on serving"),
    "undecided": ("bad", "Not released: too little to judge by"),
    "refused": ("bad", "Release refused"),
}


def _explained(title: str, text: str, after: str = "") -> RunVerdict:
    """Keep the lines of a message as they are: it may hold a table."""
    first, *more = text.strip().splitlines()
    return RunVerdict("bad", title, sentence(first), more=tuple(more), after=after)


def _in_state(run: Run, state: str) -> list[StageOutcome]:
    return [stage for stage in run.stages if stage.state == state]


def _names(run: Run, outcomes: Sequence[StageOutcome]) -> str:
    return ", ".join(label(stage, run.pipeline) for stage in outcomes)


def _untouched(failed: Sequence[StageOutcome]) -> str:
    """Say that nothing went out, where that is sure: publishing comes after every stage."""
    inside = all(stage.name in BUILD_STAGES for stage in failed)
    return "Nothing was published; what served before goes on serving." if inside else ""


def sentences(run: Run, facts: Facts) -> dict[str, str]:
    """Write the opening sentence of every section."""
    return {
        "stages": _stages(run),
        "data": _data(facts),
        "expectations": _expectations(facts),
        "training": _training(facts.history, facts.problem),
        "quality": _quality(facts),
        "slices": _slices(facts),
        "precisions": _precisions(facts),
        "timed": _timed(facts.timings),
        "gates": _gates(run, facts),
        "release": _release(run.release) if run.release else "",
        "lineage": _lineage(run),
    }


def _stages(run: Run) -> str:
    states = [stage.state for stage in run.stages]
    if states and states.count("skipped") == len(states):
        return f"All {len(states)} stages were up to date, so none ran."
    if states and states.count("ran") == len(states):
        return f"All {len(states)} stages ran."
    counts = {state: states.count(state) for state in _TOLD}
    parts = [f"{count} {_TOLD[state]}" for state, count in counts.items() if count]
    return f"Of {len(states)} stages {', '.join(parts)}." if parts else ""


_TOLD = {
    "ran": "ran",
    "restored": "came from the cache",
    "skipped": "had nothing new",
    "failed": "failed",
    "stopped": "stopped",
    "not run": "not reached",
}


def _data(facts: Facts) -> str:
    table, validation = facts.table, facts.validation
    rows_in = validation.rows_in if validation.rows_in is not None else table.rows
    if rows_in is None:
        return ""
    text = f"{count(rows_in)} rows"
    first, last = table.time_range or ("", "")
    text += f" from {day(first)} to {day(last)}." if first and last else "."
    aside = validation.rows_quarantined
    if aside is None:
        return text
    if aside == 0:
        return f"{text} Every row kept every rule; none went to quarantine."
    return (
        f"{text} {count(aside)} ({share(aside / rows_in, 3)}) broke a rule and went to quarantine."
    )


def _expectations(facts: Facts) -> str:
    rules = facts.validation.expectations
    held = sum(rule.success for rule in rules)
    return f"{held} of {len(rules)} hold{'s' if held == 1 else ''} for every row and the table."


def _training(history: History, problem: Problem) -> str:
    if history.best_step is None:
        return ""
    kept = {one["step"]: one for one in history.evaluations}.get(history.best_step, NOT_MEASURED)
    text = f"Step {count(history.best_step)} was kept"
    watched = dict.fromkeys((problem.stopping, *problem.gated))
    known = [m for m in watched if kept[m.key] is not None]
    if known:
        text += ": validation " + ", ".join(f"{m.name} {score(kept[m.key])}" for m in known)
    text += "."
    if history.stopped:
        text += f" Training stopped: {history.stopped}."
    if history.parameters is not None:
        text += f" {count(history.parameters)} parameters"
        processes = history.processes
        text += f", {count(processes)} {_plural('process', processes)}." if processes else "."
    return text


def _quality(facts: Facts) -> str:
    test, primary = facts.test, facts.problem.primary
    if (mine := test[primary.key]) is None:
        return ""
    shipped = facts.shipped
    text = f"On {count(test.rows)} test rows the {primary.name} of {shipped} is {score(mine)}"
    for name, measured in facts.metrics.families.items():
        if name != shipped and (theirs := measured[primary.key]) is not None:
            side = "above" if mine >= theirs else "below"
            text += f", {score(abs(mine - theirs))} {side} {name} on the same rows"
    text += "."
    for name, compared in facts.choice.families.items():
        if name != facts.choice.best and (loss := compared.loss) is not None:
            text += (
                f" On the rows that choose {name} loses {loss_in_words(primary, loss.value)} to"
                f" {facts.choice.best} ({loss_in_words(primary, loss.low)} to"
                f" {loss_in_words(primary, loss.high)} in 95 of 100)."
            )
    if (error := test["ece"]) is not None:
        text += f" Its probabilities are off by {share(error, 2)} on average over the bins."
    return text


def _slices(facts: Facts) -> str:
    primary = facts.problem.primary
    known = [
        (measured[facts.shipped], measured.rows or 0, column, value)
        for column, values in facts.metrics.slices.items()
        for value, measured in values.items()
    ]
    judged = [
        (measured, f"{column} {value}")
        for measured, rows, column, value in known
        if measured is not None and rows >= facts.slice_rows_min
    ]
    small = len(known) - len(judged)
    text = ""
    if judged:
        (low, worst), (high, best) = min(judged), max(judged)
        if not primary.higher_is_better:
            (low, worst), (high, best) = (high, best), (low, worst)
        text = f"{primary.title} runs from {score(low, 3)} ({worst}) to {score(high, 3)} ({best})."
    if small:
        few = f"fewer than {facts.slice_rows_min} rows"
        few += " or one class" if facts.problem.output.range else ""
        text += (
            f" Grey: {small} {_plural('slice', small)} with {few}, whose {primary.name} is noise."
        )
    return f"{text} No gate looks at slices.".strip() if known else ""


def _precisions(facts: Facts) -> str:
    chosen = facts.gates.chosen
    margin = f" by {share(facts.config.prove.cheaper_by_min, 0)}" if facts.config else ""
    if chosen:
        return (
            f"{chosen} was chosen: of those that are good enough and passed every gate, none is"
            f" cheaper{margin} or more."
        )
    return "No candidate passed every gate, so none was chosen." if facts.gates.precisions else ""


def _timed(timings: Timings) -> str:
    if not timings.latency:
        return ""
    rows = {one.rows for one in timings.latency.values()} - {None}
    calls = f" of {count(rows.pop())} rows" if len(rows) == 1 else ""
    text = f"Time per call{calls}"
    if timings.provider:
        text += f" on {timings.provider}"
    cpu = timings.hardware.cpu
    return f"{text}, {cpu}." if cpu else f"{text}."


def _gates(run: Run, facts: Facts) -> str:
    results = gate_results(run, facts)
    failed = sum(gate.verdict == "fail" for gate in results)
    if not failed:
        return f"All {len(results)} gates passed."
    text = f"{failed} of {len(results)} gates failed."
    chosen = run.precision or facts.gates.chosen
    ours = [gate for gate in results if gate.precision == chosen]
    if chosen and ours and all(gate.verdict == "pass" for gate in ours):
        text += f" All {len(ours)} gates of {chosen}, which was chosen, passed."
    return text


def _release(release: ReleaseResult) -> str:
    parts = (sentence(release.decision), sentence(scrub(release.reason)), _traffic(release))
    return " ".join(part for part in parts if part)


def _traffic(release: ReleaseResult) -> str:
    """Say on how much traffic the sides were compared."""
    numbers = numbers_of(release)
    sides = {"candidate": numbers.candidate, "stable": numbers.stable}
    parts = [
        f"the {name} answered {count(side.answered)} of {count(side.requests)}"
        f" requests ({count(side.rows)} rows)"
        for name, side in sides.items()
        if side
    ]
    return sentence(", ".join(parts))


def _lineage(run: Run) -> str:
    git = run.git
    if not git.commit:
        return "This checkout has no git commit, so the code cannot be traced."
    if git.dirty:
        files = f"{git.changed_count} {_plural('file', git.changed_count)}"
        return f"The commit alone does not give this run: {files} differed from it."
    if not run.version:
        return "The code that ran is exactly this commit."
    return "This commit, these sources and this dvc.lock give this version again."


def _plural(word: str, how_many: float) -> str:
    if how_many == 1:
        return word
    return f"{word}es" if word.endswith("s") else f"{word}s"
