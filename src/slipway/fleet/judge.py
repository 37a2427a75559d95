"""Judge a candidate by the traffic that it and the stable version answered side by side.

Pure: no clock, no host, no store. `Traffic` is what was sent and what came back. Where both give
a probability to rows whose label is known, quality is judged by it. Of any other model nobody
here knows what a good answer is: it must answer, as fast as stable, and as it was proven to.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slipway.config import ReleaseLimits
from slipway.fleet.answers import Apart
from slipway.problem import Measure, Problem

REQUESTS_MIN = 50
"""Fewer answers than this to either side say nothing: 1 failure in 50 is already 2 %."""

ERRORS = "error share"
"""The measure that a host in trouble can spoil."""

P99 = "p99 ms"
"""The one measure that the machine's other work can spoil."""

OUTPUTS_NAMED = 3
"""More outputs than these are counted, not named: a line of the table is read as one."""

Decision = Literal["promote", "reject", "wait"]


@dataclass(frozen=True)
class Scored:
    """Answers to the rows that were answered, beside what came true."""

    problem: Problem
    """What says how good they are."""
    golden: str
    """Which golden rows were asked; only answers to the same rows are compared one by one."""
    questions: NDArray[np.int64]
    """Per answered row, its number among all rows asked: the same number, the same question."""
    labels: NDArray[Any]
    """Per answered row, what really happened."""
    answers: NDArray[np.float64]
    """Per answered row, what the problem measures."""
    weights: NDArray[np.float64] | None = None
    """Per answered row, how much it counts; None: all alike."""

    def measure(self, measure: Measure) -> float | None:
        """Say how good the answers are."""
        return measure(self.labels, self.answers, self.weights)


@dataclass(frozen=True)
class Traffic:
    """What one version answered to golden rows; a request that failed leaves no row."""

    version: str
    requests: int
    errors: dict[str, int]
    """How often each error came."""
    latencies_ms: NDArray[np.float64]
    """Of the requests that were answered, without the first few."""
    rows: int
    """Rows that were answered."""
    proven: Mapping[str, Apart]
    """Per output, how far from the recorded answers; empty if others' golden rows were asked."""
    apart: Mapping[str, Apart]
    """Per output, how far from the other side's answers to the same questions; of the candidate."""
    scored: Scored | None
    """Of a version whose answers can be judged by labels."""
    unserved: int = 0
    """Of the errors: requests that the host took no notice of. 0 for a version that hangs while
    its host answers: that is the version's doing."""

    @property
    def failed(self) -> int:
        """Requests without a proper answer."""
        return sum(self.errors.values())

    @property
    def answered(self) -> int:
        """Requests with a proper answer."""
        return self.requests - self.failed


@dataclass(frozen=True)
class Line:
    """One measure of both sides, and what it means for the candidate."""

    measure: str
    candidate: float | None
    stable: float | None
    limit: float | None
    """The value that the candidate may not pass; None for what is only reported."""
    verdict: Literal["pass", "fail", "unknown", "reported"]
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """What follows from all lines together."""

    decision: Decision
    reasons: tuple[str, ...]
    lines: tuple[Line, ...]
    too_little: tuple[str, ...] = ()
    """Why there is too little traffic to promote by."""

    @property
    def reason(self) -> str:
        """All reasons in one sentence."""
        return "; ".join(self.reasons)


def judge(candidate: Traffic, stable: Traffic, limits: ReleaseLimits) -> Verdict:
    """Compare the candidate with the stable version over the same window.

    Never against a fixed number: a slow afternoon slows both, and should not undo a good
    model. Too little traffic is no reason to promote, so it waits.
    """
    errors, p99 = _errors(candidate, stable, limits), _p99(candidate, stable, limits)
    lines: tuple[Line, ...] = (errors, p99, _differences(candidate))
    if candidate.scored is not None and stable.scored is not None:
        mine, theirs = _same_questions(candidate.scored, stable.scored)
        quality = tuple(_quality(m, mine, theirs, limits) for m in theirs.problem.gated)
        lines = (errors, *quality, p99, _difference(mine, theirs))
    return conclude(lines, _too_little(candidate, stable))


def conclude(lines: tuple[Line, ...], too_little: tuple[str, ...] = ()) -> Verdict:
    """Turn lines into a decision: one failure rejects, anything unknown waits."""
    failed = tuple(_reason(line) for line in lines if line.verdict == "fail")
    unknown = tuple(_reason(line) for line in lines if line.verdict == "unknown")
    if failed:
        return Verdict("reject", failed, lines, too_little)
    if too_little or unknown:
        return Verdict("wait", too_little + unknown, lines, too_little)
    return Verdict("promote", ("every measure is within its limit",), lines)


def check_answers(traffic: Traffic, tolerance: Mapping[str, float]) -> Line:
    """Hold the answers that came over the wire against those recorded when it was proven.

    Told of the output that comes nearest to its tolerance, or is furthest beyond it. This is what
    a first release is judged by, as there is nothing to compare it with; the tolerances are the
    bundle's own, and 0 for what is no floating-point number.
    """
    if not traffic.answered or not traffic.proven:
        return Line(
            "answers as proven",
            None,
            stable=None,
            limit=None,
            verdict="unknown",
            detail="no row was answered",
        )
    worst = max(traffic.proven, key=lambda name: _strain(traffic.proven[name], tolerance[name]))
    apart, limit = traffic.proven[worst], tolerance[worst]
    verdict, detail = _verdict(apart.distance <= limit), _which(traffic.proven, worst)
    name, found = "answers as proven", apart.distance
    return Line(name, found, stable=None, limit=limit, verdict=verdict, detail=detail)


def _which(proven: Mapping[str, Apart], worst: str) -> str:
    """Name the output that is told of, and how many there are."""
    apart = proven[worst]
    if len(proven) > 1 and not apart.distance:
        return f"all {len(proven)} outputs, to the last digit"
    name = f"{worst}: {apart.differing:,} of {apart.values:,} values" if apart.differing else worst
    return name if len(proven) == 1 else f"{name}, the furthest of {len(proven)} outputs"


def _strain(apart: Apart, tolerance: float) -> float:
    """Return how much of its tolerance an output uses up."""
    if not apart.distance:
        return 0.0
    return apart.distance / tolerance if tolerance else math.inf


def error_free(traffic: Traffic) -> Line:
    """Demand an answer to every request: what a first release is held to beside its answers."""
    return _error_line(traffic, stable=None, limit=0.0)


def _same_questions(candidate: Scored, stable: Scored) -> tuple[Scored, Scored]:
    """Keep the questions that both sides answered, in the same order.

    Sides that were asked other golden rows (their inputs differ) each keep their own.
    """
    if candidate.golden != stable.golden:
        return candidate, stable
    _, mine, theirs = np.intersect1d(
        candidate.questions, stable.questions, assume_unique=True, return_indices=True
    )
    return _take(candidate, mine), _take(stable, theirs)


def _take(scored: Scored, which: NDArray[np.int64]) -> Scored:
    return replace(
        scored,
        questions=scored.questions[which],
        labels=scored.labels[which],
        answers=scored.answers[which],
        weights=None if scored.weights is None else scored.weights[which],
    )


def _errors(candidate: Traffic, stable: Traffic, limits: ReleaseLimits) -> Line:
    theirs = stable.failed / max(stable.requests, 1)
    return _error_line(candidate, stable=theirs, limit=theirs + limits.error_share_rise_max)


def _error_line(traffic: Traffic, stable: float | None, limit: float) -> Line:
    """Hold the errors to a limit, unless it is those of the hosts that make the difference."""
    requests = max(traffic.requests, 1)
    share, own = traffic.failed / requests, (traffic.failed - traffic.unserved) / requests
    detail = _commonest(traffic)
    verdict: Literal["pass", "fail", "unknown"] = _verdict(share <= limit)
    if verdict == "fail" and own <= limit:
        verdict = "unknown"
        detail = f"{traffic.unserved} requests were not served by their hosts: {detail}"
    return Line(ERRORS, share, stable=stable, limit=limit, verdict=verdict, detail=detail)


def _quality(measure: Measure, candidate: Scored, stable: Scored, limits: ReleaseLimits) -> Line:
    mine, theirs = candidate.measure(measure), stable.measure(measure)
    if mine is None or theirs is None:
        why = "the rows answered have one class" if stable.labels.size else "no row was answered"
        return Line(measure.name, mine, stable=theirs, limit=None, verdict="unknown", detail=why)
    limit = measure.worst_allowed(theirs, limits.quality[measure.key])
    return Line(
        measure.name,
        mine,
        stable=theirs,
        limit=limit,
        verdict=_verdict(measure.at_least_as_good(mine, limit)),
    )


def _p99(candidate: Traffic, stable: Traffic, limits: ReleaseLimits) -> Line:
    if not candidate.latencies_ms.size or not stable.latencies_ms.size:
        return Line(
            P99,
            None,
            stable=None,
            limit=None,
            verdict="unknown",
            detail="no request was answered by both",
        )
    mine = float(np.percentile(candidate.latencies_ms, 99))
    theirs = float(np.percentile(stable.latencies_ms, 99))
    limit = max(theirs * limits.p99_ratio_max, theirs + limits.p99_slack_ms)
    return Line(P99, mine, stable=theirs, limit=limit, verdict=_verdict(mine <= limit))


def _difference(candidate: Scored, stable: Scored) -> Line:
    """Report how far apart the answers are: a new model is meant to answer differently."""
    if candidate.golden != stable.golden:
        return Line(
            "largest difference",
            None,
            stable=None,
            limit=None,
            verdict="reported",
            detail="other golden rows",
        )
    if not candidate.answers.size:
        return Line(
            "largest difference",
            None,
            stable=None,
            limit=None,
            verdict="reported",
            detail="nothing to compare",
        )
    distance = np.abs(candidate.answers - stable.answers)
    detail = f"mean {float(distance.mean()):.4g} over {len(distance)} rows"
    return Line(
        "largest difference",
        float(distance.max()),
        stable=None,
        limit=None,
        verdict="reported",
        detail=detail,
    )


def _differences(candidate: Traffic) -> Line:
    """Report the same of a model with any outputs, the largest difference first."""
    apart = sorted(candidate.apart.items(), key=lambda pair: -pair[1].largest)
    words = [f"{name}: {_in_words(each)}" for name, each in apart]
    if more := words[OUTPUTS_NAMED:]:
        words[OUTPUTS_NAMED:] = [f"{len(more)} more"]
    numbers = [each.largest for _, each in apart if each.values and not each.exact]
    detail = "; ".join(words) or "other golden rows, or other outputs"
    return Line(
        "largest difference",
        max(numbers, default=None),
        stable=None,
        limit=None,
        verdict="reported",
        detail=detail,
    )


def _in_words(apart: Apart) -> str:
    if apart.misshapen:
        return "another shape"
    if apart.exact:
        return f"{apart.differing:,} of {apart.values:,} values differ"
    mean = apart.total / max(apart.values, 1)
    return f"up to {apart.largest:.4g}, mean {mean:.4g} over {apart.values:,} values"


def _too_little(candidate: Traffic, stable: Traffic) -> tuple[str, ...]:
    return tuple(
        f"only {side.answered} requests were answered by {role}, {REQUESTS_MIN} are wanted"
        for role, side in (("the candidate", candidate), ("stable", stable))
        if side.answered < REQUESTS_MIN
    )


def _verdict(good: bool) -> Literal["pass", "fail"]:
    return "pass" if good else "fail"


def _commonest(traffic: Traffic) -> str:
    """Name the error that came most often."""
    return max(traffic.errors, key=lambda error: traffic.errors[error], default="")


def _reason(line: Line) -> str:
    if line.verdict == "unknown":
        return f"{line.measure} cannot be compared: {line.detail}"
    stable = "" if line.stable is None else f" (stable {line.stable:.4g})"
    detail = f": {line.detail}" if line.detail else ""
    return f"{line.measure} is {line.candidate:.4g}, limit {line.limit:.4g}{stable}{detail}"
