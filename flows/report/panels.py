"""Turn a run and its facts into what each section of the report shows.

Pure: records in, small records out. Everything is optional, because the report of a run that
stopped early is read most carefully of all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from flows.report.facts import Exported, Facts, LatencyFacts, PrecisionGates
from slipway.bundle.gate import INVARIANCE, PARITY
from slipway.fleet.judge import Line
from slipway.make.build import DataPart
from slipway.precision import REFERENCE
from slipway.problem import Measure
from slipway.runs.parsing import parse
from slipway.runs.run import GateResult, ReleaseResult, Run, StageOutcome
from slipway.settings.split import GivenSplit, GroupSplit, TimeSplit
from slipway.wording import compact, day, moment, scrub

ONE_DAY = timedelta(days=1)
"""A config's period ends before its `end`; people read the last day that is in it."""


@dataclass(frozen=True)
class Bar:
    """One stage's place in the timeline, in percent of the whole."""

    stage: str
    state: str
    seconds: float | None
    left: float
    width: float


def timeline(run: Run) -> list[Bar]:
    """Place each stage by its start where the run knows it, else let every bar start at zero."""
    stages, done = [*run.stages], run.release
    if stages and done and done.seconds is not None:
        seen = StageOutcome("release", "ran", started_at=done.started_at, seconds=done.seconds)
        stages.append(seen)
    origin = moment(run.started_at)
    spans = [_span(stage, origin) for stage in stages]
    whole = max((start + length for start, length in spans), default=0) or 1
    return [
        Bar(
            stage=label(stage, run.pipeline),
            state=stage.state,
            seconds=stage.seconds,
            left=round(100 * start / whole, 2),
            width=round(100 * length / whole, 2),
        )
        for stage, (start, length) in zip(stages, spans, strict=True)
    ]


def label(outcome: StageOutcome, pipeline: str) -> str:
    """Name a stage without the pipeline that the whole page is about."""
    name, _, instance = outcome.stage.partition("@")
    branch = instance.removeprefix(pipeline).removeprefix("-")
    return f"{name} {branch}".strip()


def _span(outcome: StageOutcome, origin: datetime | None) -> tuple[float, float]:
    length = max(outcome.seconds or 0.0, 0.0)
    begun = moment(outcome.started_at)
    if origin is None or begun is None or (begun.tzinfo is None) != (origin.tzinfo is None):
        return 0.0, length
    return max((begun - origin).total_seconds(), 0.0), length


PARTS = ("train", "stop", "choose", "test")
PERIODS = {"stop": "validation", "choose": "validation"}
"""Parts that share the days of another name."""


def parts(facts: Facts) -> tuple[DataPart, ...]:
    """List the parts that learned, stopped, tested and proved, in the order of time."""
    rows, key = facts.features.rows, facts.problem.level.key
    split = facts.config.split if facts.config else None
    found = [
        DataPart(
            name,
            _which(split, name),
            rows=rows[name],
            level=_level(facts, name, key),
            dated=isinstance(split, TimeSplit),
        )
        for name in PARTS
        if name in rows
    ]
    golden = facts.golden
    if golden.rows:
        units = {"time": "whole days", "group": "whole groups"}.get(golden.by, "rows")
        which = f"{golden.unit_count or 0:,} {units}, never trained on"
        found.append(DataPart("golden", which, golden.rows, golden.level(key)))
    return tuple(found)


def _level(facts: Facts, part: str, key: str) -> float | None:
    measured = facts.features.parts.get(part)
    return None if measured is None else measured[key]


def _which(split: object, part: str) -> str:
    """Say which rows a part holds."""
    if isinstance(split, TimeSplit):
        period = getattr(split, PERIODS.get(part, part))
        days = f"{day(period.start)} to {day(period.end - ONE_DAY)}"
        return f"{days}, some days of it" if part in PERIODS else days
    if isinstance(split, GroupSplit):
        return f"whole values of {split.column}, by a hash"
    if isinstance(split, GivenSplit):
        return f"as {split.column} says"
    return "rows by a hash of their key" if split is not None else ""


def gate_results(run: Run, facts: Facts) -> tuple[GateResult, ...]:
    """List every gate: those that the run noted, else those that prove wrote."""
    return run.gates or tuple(
        replace(gate, precision=name)
        for name, proof in facts.gates.precisions.items()
        for gate in proof.gates
    )


def gates(run: Run, facts: Facts) -> dict[str, list[GateResult]]:
    """Group every gate by precision, the chosen one first."""
    chosen = run.precision or facts.gates.chosen
    groups: dict[str, list[GateResult]] = {}
    for gate in sorted(gate_results(run, facts), key=lambda one: one.precision != chosen):
        groups.setdefault(gate.precision, []).append(gate)
    return groups


@dataclass(frozen=True)
class PrecisionRow:
    """One candidate beside its peers."""

    name: str
    chosen: bool
    verdict: str
    reason: str
    size_bytes: int | None
    p50_ms: float | None
    p99_ms: float | None
    rows: int | None
    width: float
    measures: dict[str, float | None]


def precisions(run: Run, facts: Facts) -> list[PrecisionRow]:
    """Compare what was tried: size, time, quality, verdict and the reason for it."""
    proofs, latency = facts.gates.precisions, facts.timings.latency
    known = {*proofs, *latency, *facts.quantized}
    names = sorted(known, key=lambda name: (not name.endswith(f"-{REFERENCE}"), name))
    slowest = max((one.p50_ms or 0 for one in latency.values()), default=0) or 1
    chosen = facts.gates.chosen or run.precision
    found = []
    for name in names:
        proof = proofs.get(name, PrecisionGates())
        made = facts.quantized.get(name, Exported())
        timed = latency.get(name, LatencyFacts())
        exported = facts.exports.get(name.removesuffix(f"-{REFERENCE}"), Exported()).size_bytes
        sizes = (timed.size_bytes, made.size_bytes, exported)
        found.append(
            PrecisionRow(
                name=name,
                chosen=name == chosen,
                verdict=proof.verdict or ("made" if made.made else "not made"),
                reason=scrub(proof.reason or made.reason or ""),
                size_bytes=next((size for size in sizes if size is not None), None),
                p50_ms=timed.p50_ms,
                p99_ms=timed.p99_ms,
                rows=timed.rows,
                width=round(100 * (timed.p50_ms or 0) / slowest, 2),
                measures=_measures(proof.gates, facts.problem.primary),
            )
        )
    return found


def _measures(results: Iterable[GateResult], primary: Measure) -> dict[str, float | None]:
    """Pick what precisions are compared by: quality, parity, invariance."""
    known = {one.gate: one.measured for one in results}
    parity = [measured for gate, measured in known.items() if gate.startswith(PARITY)]
    return {
        primary.title: known.get(primary.name),
        "parity": parity[0] if parity else None,
        "invariance": known.get(INVARIANCE),
    }


@dataclass(frozen=True)
class SideCounts:
    """How much traffic one side of a release had."""

    requests: int | None = None
    answered: int | None = None
    rows: int | None = None


@dataclass(frozen=True)
class ReleaseNumbers:
    """What the page shows of a release's numbers."""

    lines: tuple[Line, ...] = ()
    candidate: SideCounts | None = None
    stable: SideCounts | None = None


def numbers_of(release: ReleaseResult | None) -> ReleaseNumbers:
    """Read what the judge saw; nothing where there was no release."""
    return parse(ReleaseNumbers, release.numbers if release else {})


def other_numbers(release: ReleaseResult | None) -> list[tuple[str, str]]:
    """List what the release recorded as plain numbers or words beside the comparison."""
    return [
        (key.replace("_", " "), compact(value))
        for key, value in (release.numbers if release else {}).items()
        if not isinstance(value, dict | list)
    ]
