"""Turn a run and its facts into what each section of the report shows.

Pure: dictionaries in, small records out. Everything is optional, because the report of a
run that stopped early is read most carefully of all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flows.report.facts import Facts
from slipway.bundle.gate import SIGNS
from slipway.precision import REFERENCE
from slipway.problem import Measure
from slipway.wording import compact, day, moment, number, scrub

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


def timeline(run: Mapping[str, Any]) -> list[Bar]:
    """Place each stage by its start where the run knows it, else let every bar start at zero."""
    stages = [*(run.get("stages") or [])]
    release = run.get("release") or {}
    if stages and release.get("seconds") is not None:
        stages.append({"stage": "release", "state": "ran", **release})
    origin = moment(run.get("started_at"))
    spans = [_span(entry, origin) for entry in stages]
    whole = max((start + length for start, length in spans), default=0) or 1
    return [
        Bar(
            stage=label(entry, str(run.get("pipeline"))),
            state=str(entry.get("state", "?")),
            seconds=number(entry.get("seconds")),
            left=round(100 * start / whole, 2),
            width=round(100 * length / whole, 2),
        )
        for entry, (start, length) in zip(stages, spans, strict=True)
    ]


def label(entry: Mapping[str, Any], pipeline: str) -> str:
    """Name a stage without the pipeline that the whole page is about."""
    name, _, instance = str(entry.get("stage", "?")).partition("@")
    branch = instance.removeprefix(pipeline).removeprefix("-")
    return f"{name} {branch}".strip()


def _span(entry: Mapping[str, Any], origin: Any) -> tuple[float, float]:
    length = max(number(entry.get("seconds")) or 0.0, 0.0)
    begun = moment(entry.get("started_at"))
    if origin is None or begun is None or (begun.tzinfo is None) != (origin.tzinfo is None):
        return 0.0, length
    return max((begun - origin).total_seconds(), 0.0), length


@dataclass(frozen=True)
class Split:
    """One part of the data: what it is for, its days, rows and share of positives."""

    name: str
    days: str
    rows: float | None
    base_rate: float | None
    width: float


def splits(facts: Facts) -> list[Split]:
    """List the parts that learned, stopped, tested and proved, in the order of time."""
    rows = facts.features.get("rows") or {}
    rates = facts.features.get("base_rate") or {}
    periods = facts.config.prepare if facts.config else None
    parts = []
    for name in ("train", "validation", "test"):
        if number(rows.get(name)) is not None:
            period = getattr(periods, name, None)
            days = f"{day(period.start)} to {day(period.end - ONE_DAY)}" if period else ""
            parts.append((name, days, number(rows.get(name)), number(rates.get(name))))
    if held := number(facts.golden.get("rows")):
        positives = number(facts.golden.get("positives"))
        chosen = len(facts.golden.get("days") or [])
        rate = positives / held if positives is not None else None
        parts.append(("golden", f"{chosen} whole days, never trained on", held, rate))
    largest = max((count or 0 for _, _, count, _ in parts), default=0) or 1
    return [
        Split(name, days, count, rate, round(100 * (count or 0) / largest, 2))
        for name, days, count, rate in parts
    ]


@dataclass(frozen=True)
class Gate:
    """One measured value, its limit and which side of it is right."""

    gate: str
    precision: str
    measured: str
    limit: str
    verdict: str


def gates(run: Mapping[str, Any], facts: Facts) -> dict[str, list[Gate]]:
    """Group every gate by precision, the chosen one first."""
    entries = run.get("gates") or [
        {"precision": name, **gate}
        for name, proof in (facts.gates.get("precisions") or {}).items()
        for gate in proof.get("gates") or []
    ]
    chosen = run.get("precision") or facts.gates.get("chosen")
    groups: dict[str, list[Gate]] = {}
    for entry in sorted(entries, key=lambda one: one.get("precision") != chosen):
        groups.setdefault(str(entry.get("precision") or ""), []).append(_gate(entry))
    return groups


def _gate(entry: Mapping[str, Any]) -> Gate:
    unit = f" {entry['unit']}" if entry.get("unit") else ""
    sign = SIGNS.get(str(entry.get("bound")), "")
    limit = compact(entry.get("limit"))
    return Gate(
        gate=str(entry.get("gate", "?")).replace("_", " "),
        precision=str(entry.get("precision") or ""),
        measured=compact(entry.get("measured")) + unit,
        limit=f"{sign} {limit}{unit}".strip() if entry.get("limit") is not None else limit,
        verdict=str(entry.get("verdict", "?")),
    )


@dataclass(frozen=True)
class Precision:
    """One exported form of the model beside its peers."""

    name: str
    chosen: bool
    verdict: str
    reason: str
    size_bytes: float | None
    p50_ms: float | None
    p99_ms: float | None
    rows: float | None
    width: float
    measures: dict[str, float | None]


def precisions(run: Mapping[str, Any], facts: Facts) -> list[Precision]:
    """Compare what was tried: size, time, quality, verdict and the reason for it."""
    proofs = facts.gates.get("precisions") or {}
    latency = facts.timings.get("latency") or {}
    known = {*proofs, *latency, *facts.quantized}
    names = sorted(known, key=lambda name: (name != REFERENCE, name))
    slowest = max((number(one.get("p50_ms")) or 0 for one in latency.values()), default=0) or 1
    chosen = facts.gates.get("chosen") or run.get("precision")
    found = []
    for name in names:
        proof, made, timed = proofs.get(name, {}), facts.quantized.get(name, {}), latency.get(name)
        timed = timed or {}
        p50 = number(timed.get("p50_ms"))
        found.append(
            Precision(
                name=name,
                chosen=name == chosen,
                verdict=str(proof.get("verdict") or ("made" if made.get("made") else "not made")),
                reason=scrub(proof.get("reason") or made.get("reason") or ""),
                size_bytes=_first(timed, made, facts.export if name == REFERENCE else {}),
                p50_ms=p50,
                p99_ms=number(timed.get("p99_ms")),
                rows=number(timed.get("rows")),
                width=round(100 * (p50 or 0) / slowest, 2),
                measures=_measures(proof.get("gates") or [], facts.problem.primary),
            )
        )
    return found


def _first(*places: Mapping[str, Any]) -> float | None:
    sizes = (number(place.get("size_bytes")) for place in places)
    return next((size for size in sizes if size is not None), None)


def _measures(entries: Iterable[Mapping[str, Any]], primary: Measure) -> dict[str, float | None]:
    """Pick what precisions are compared by: quality, parity, invariance."""
    known = {str(entry.get("gate", "")): number(entry.get("measured")) for entry in entries}
    parity = [measured for gate, measured in known.items() if gate.startswith("parity")]
    return {
        primary.title: known.get(primary.name),
        "parity": parity[0] if parity else None,
        "invariance": known.get("batch invariance"),
    }


@dataclass(frozen=True)
class Comparison:
    """One measure of the canary: the candidate's beside the stable version's."""

    name: str
    candidate: str
    stable: str
    limit: str
    verdict: str
    detail: str


def comparisons(release: Mapping[str, Any]) -> list[Comparison]:
    """Set the candidate's measures beside the stable version's, as the judge saw them."""
    lines = (release.get("numbers") or {}).get("lines")
    return [_comparison(line) for line in lines] if isinstance(lines, list) else []


def _comparison(line: Mapping[str, Any]) -> Comparison:
    name = str(line.get("measure", "?"))
    return Comparison(
        name=name,
        **{key: compact(line.get(key)) for key in ("candidate", "stable", "limit")},
        verdict=str(line.get("verdict") or ""),
        detail=scrub(line.get("detail") or ""),
    )


def other_numbers(release: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List what the release recorded as plain numbers or words beside the comparison."""
    return [
        (key.replace("_", " "), compact(value))
        for key, value in (release.get("numbers") or {}).items()
        if not isinstance(value, dict | list)
    ]
