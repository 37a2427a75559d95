"""Say what each part of a run came to, in plain sentences made from its numbers.

Pure. A sentence stands only on what is there: a part that has nothing to say returns an
empty text, never a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flows.report.facts import Facts, stage_name
from flows.report.panels import label
from slipway.precision import REFERENCE
from slipway.problem import Measure, Problem
from slipway.wording import count, day, number, score, scrub, sentence, share

BUILD_STAGES = {
    *("ingest", "validate", "golden", "prepare", "train"),
    *("evaluate", "export", "quantize", "prove", "payload"),
}
"""The stages that end with the payload: nothing was published when one of them stopped."""

Tone = Literal["good", "quiet", "bad"]


@dataclass(frozen=True)
class Verdict:
    """What came of a run: one line, a sentence, and the lines of a longer message."""

    tone: Tone
    title: str
    detail: str
    more: tuple[str, ...] = ()
    after: str = ""


def verdict(run: Mapping[str, Any]) -> Verdict:
    """Say what came of the run: where it stopped and why, or what it released."""
    error, release = scrub(run.get("error") or ""), run.get("release") or {}
    if failed := _in_state(run, "failed"):
        reasons = [scrub(entry["error"]) for entry in failed if entry.get("error")]
        text = "\n".join(reasons) or error or "the log of this stage holds the reason"
        return _explained(f"Stopped at {_names(run, failed)}", text, _untouched(failed))
    if run.get("state") == "interrupted":
        stopped = _in_state(run, "stopped")
        where = f" at {_names(run, stopped)}" if stopped else ""
        return Verdict("bad", f"Interrupted{where}", "The next run goes on from what was done.")
    tone, title = _DECISIONS.get(str(release.get("decision")), ("quiet", "Built, not released"))
    if error and tone != "bad":
        return _explained("Stopped", error)
    return Verdict(tone, title, sentence(scrub(release.get("reason") or "")))


_DECISIONS: dict[str, tuple[Tone, str]] = {
    "first release": ("good", "Released: the first version"),
    "promoted": ("good", "Released by way of a canary"),
    "already serves": ("quiet", "Nothing new: this version already serves"),
    "rejected": ("bad", "Candidate rejected, the stable version goes on serving"),
    "undecided": ("bad", "Not released: too little to judge by"),
    "refused": ("bad", "Release refused"),
}


def _explained(title: str, text: str, after: str = "") -> Verdict:
    """Keep the lines of a message as they are: it may hold a table."""
    first, *more = text.strip().splitlines()
    return Verdict("bad", title, sentence(first), tuple(more), after)


def _in_state(run: Mapping[str, Any], state: str) -> list[Mapping[str, Any]]:
    return [entry for entry in run.get("stages") or [] if entry.get("state") == state]


def _names(run: Mapping[str, Any], entries: list[Mapping[str, Any]]) -> str:
    return ", ".join(label(entry, str(run.get("pipeline"))) for entry in entries)


def _untouched(failed: list[Mapping[str, Any]]) -> str:
    """Say that nothing went out, where that is sure: publishing comes after every stage."""
    inside = all(stage_name(entry) in BUILD_STAGES for entry in failed)
    return "Nothing was published; what served before goes on serving." if inside else ""


def sentences(run: Mapping[str, Any], facts: Facts) -> dict[str, str]:
    """Write the opening sentence of every section."""
    return {
        "stages": _stages(run),
        "data": _data(facts),
        "expectations": _expectations(facts),
        "training": _training(facts.history, facts.problem),
        "quality": _quality(facts.metrics, facts.problem.primary),
        "slices": _slices(facts),
        "precisions": _precisions(facts),
        "timed": _timed(facts.timings),
        "gates": _gates(run, facts),
        "release": _release(run.get("release") or {}),
        "lineage": _lineage(run),
    }


def _stages(run: Mapping[str, Any]) -> str:
    states = [str(entry.get("state")) for entry in run.get("stages") or []]
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
    rows_in = number(facts.validation.get("rows_in")) or number(facts.table.get("rows"))
    if rows_in is None:
        return ""
    text = f"{count(rows_in)} rows"
    first, last = [*(facts.table.get("time_range") or []), None, None][:2]
    text += f" from {day(first)} to {day(last)}." if first and last else "."
    aside = number(facts.validation.get("rows_quarantined"))
    if aside is None:
        return text
    if aside == 0:
        return f"{text} Every row kept every rule; none went to quarantine."
    return (
        f"{text} {count(aside)} ({share(aside / rows_in, 3)}) broke a rule and went to quarantine."
    )


def _expectations(facts: Facts) -> str:
    rules = facts.validation.get("expectations") or []
    held = sum(bool(rule.get("success")) for rule in rules)
    return f"{held} of {len(rules)} hold{'s' if held == 1 else ''} for every row and the table."


def _training(history: Mapping[str, Any], problem: Problem) -> str:
    best = number(history.get("best_step"))
    judged = {entry.get("step"): entry for entry in history.get("evaluations") or []}
    if best is None:
        return ""
    kept = judged.get(best, {})
    text = f"The weights of step {count(best)} were kept"
    by = sorted(problem.gated, key=lambda measure: measure is not problem.stopping)
    if number(kept.get(problem.stopping.key)) is not None:
        text += ": validation " + ", ".join(f"{m.name} {score(kept.get(m.key))}" for m in by)
    text += "."
    if history.get("stopped"):
        text += f" Training stopped: {history['stopped']}."
    if number(history.get("parameters")) is not None:
        text += f" {count(history['parameters'])} parameters"
        processes = number(history.get("processes"))
        text += f", {count(processes)} {_plural('process', processes)}." if processes else "."
    return text


def _quality(metrics: Mapping[str, Any], primary: Measure) -> str:
    test, tree = metrics.get("test") or {}, metrics.get("tree") or {}
    mine, theirs = number(test.get(primary.key)), number(tree.get(primary.key))
    if mine is None:
        return ""
    rows = count(test.get("rows"))
    text = f"On {rows} test rows the network's {primary.name} is {score(mine)}"
    if theirs is not None:
        side = "above" if mine >= theirs else "below"
        text += f", {score(abs(mine - theirs))} {side} the tree on the same rows"
    text += "."
    if number(test.get("ece")) is not None:
        text += f" Its probabilities are off by {share(test['ece'], 2)} on average over the bins."
    return text


def _slices(facts: Facts) -> str:
    primary = facts.problem.primary
    known = [
        (number(measured.get(primary.key)), number(measured.get("rows")) or 0, column, value)
        for column, values in (facts.metrics.get("slices") or {}).items()
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
        text = f"{primary.title} runs from {score(low, 3)} ({worst}) to {score(high, 3)} ({best})."
    if small:
        text += (
            f" Grey: {small} {_plural('slice', small)} with fewer than"
            f" {facts.slice_rows_min} rows or one class, whose AUC is noise."
        )
    return f"{text} No gate looks at slices.".strip() if known else ""


def _precisions(facts: Facts) -> str:
    chosen = facts.gates.get("chosen")
    margin = f" by {share(facts.config.prove.cheaper_by_min, 0)}" if facts.config else ""
    if chosen == REFERENCE:
        return f"{chosen} was chosen: no cheaper precision passed every gate and beat it{margin}."
    if chosen:
        return f"{chosen} was chosen: it passed every gate and beats {REFERENCE}{margin} or more."
    return "No precision passed every gate, so none was chosen." if facts.gates else ""


def _timed(timings: Mapping[str, Any]) -> str:
    latency = timings.get("latency") or {}
    rows = {number(one.get("rows")) for one in latency.values()} - {None}
    if not latency:
        return ""
    calls = f" of {count(rows.pop())} rows" if len(rows) == 1 else ""
    text = f"Time per call{calls}"
    if timings.get("provider"):
        text += f" on {timings['provider']}"
    hardware = timings.get("hardware") or {}
    cpu = hardware.get("cpu") or hardware.get("cpu_model")
    return f"{text}, {cpu}." if cpu else f"{text}."


def _gates(run: Mapping[str, Any], facts: Facts) -> str:
    entries = run.get("gates") or [
        gate
        for proof in (facts.gates.get("precisions") or {}).values()
        for gate in proof.get("gates") or []
    ]
    failed = sum(entry.get("verdict") == "fail" for entry in entries)
    if not failed:
        return f"All {len(entries)} gates passed."
    text = f"{failed} of {len(entries)} gates failed."
    chosen = run.get("precision") or facts.gates.get("chosen")
    ours = [entry for entry in entries if entry.get("precision") == chosen]
    if chosen and ours and all(entry.get("verdict") == "pass" for entry in ours):
        text += f" All {len(ours)} gates of {chosen}, which was chosen, passed."
    return text


def _release(release: Mapping[str, Any]) -> str:
    decision, reason = release.get("decision"), sentence(scrub(release.get("reason") or ""))
    text = sentence(decision)
    return " ".join(part for part in (text, reason, _traffic(release)) if part)


def _traffic(release: Mapping[str, Any]) -> str:
    """Say on how much traffic the sides were compared."""
    numbers = release.get("numbers") or {}
    sides = {name: numbers[name] for name in ("candidate", "stable") if numbers.get(name)}
    told = [
        f"the {name} answered {count(side.get('answered'))} of {count(side.get('requests'))}"
        f" requests ({count(side.get('rows'))} rows)"
        for name, side in sides.items()
    ]
    return sentence(", ".join(told))


def _lineage(run: Mapping[str, Any]) -> str:
    git = run.get("git") or {}
    if not git.get("commit"):
        return "This checkout has no git commit, so the code cannot be traced."
    if git.get("dirty"):
        changed = int(number(git.get("changed_count")) or 0)
        files = f"{changed} {_plural('file', changed)}"
        return f"The commit alone does not give this run: {files} differed from it."
    if not run.get("version"):
        return "The code that ran is exactly this commit."
    return "This commit, these sources and this dvc.lock give this version again."


def _plural(word: str, how_many: float) -> str:
    if how_many == 1:
        return word
    return f"{word}es" if word.endswith("s") else f"{word}s"
