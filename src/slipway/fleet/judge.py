"""Judge a candidate by the traffic that it and the stable version answered side by side.

Pure: no clock, no host, no store. `Traffic` is what was sent and what came back.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slipway.config import ReleaseLimits

REQUESTS_MIN = 50
"""Fewer answers than this to either side say nothing: 1 failure in 50 is already 2 %."""

P99 = "p99 ms"
"""The one measure that the machine's other work can spoil."""

Decision = Literal["promote", "reject", "wait"]


@dataclass(frozen=True)
class Traffic:
    """What one version answered to golden rows; a request that failed leaves no row."""

    version: str
    requests: int
    errors: dict[str, int]
    """How often each error came."""
    latencies_ms: NDArray[np.float64]
    """Of the requests that were answered, without the first few."""
    golden: str
    """Which golden rows were asked; only answers to the same rows are compared one by one."""
    questions: NDArray[np.int64]
    """Per answered row, its number among all rows asked: the same number, the same question."""
    golden_rows: NDArray[np.int64]
    """Per answered row, which golden row it was."""
    labels: NDArray[np.int64]
    """Per answered row, what really happened."""
    answers: NDArray[np.float64]
    """Per answered row, the probability."""

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
    mine, theirs = _same_questions(candidate, stable)
    lines = (
        _errors(candidate, stable, limits),
        _auc(mine, theirs, limits),
        _log_loss(mine, theirs, limits),
        _p99(candidate, stable, limits),
        _difference(mine, theirs),
    )
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


def check_answers(
    traffic: Traffic, expected: NDArray[np.float64], tolerance: float, output: str
) -> Line:
    """Hold the answers that came over the wire against those recorded when it was proven.

    `expected` stands per golden row. This is what the first release is judged by, as there
    is nothing to compare it with; the tolerance is the bundle's own for its precision.
    """
    if not traffic.answers.size:
        return Line("answers as proven", None, None, tolerance, "unknown", "no row was answered")
    largest = float(np.max(np.abs(traffic.answers - expected[traffic.golden_rows])))
    return Line(
        "answers as proven", largest, None, tolerance, _verdict(largest <= tolerance), output
    )


def error_free(traffic: Traffic) -> Line:
    """Demand an answer to every request: what a first release is held to beside its answers."""
    share = traffic.failed / max(traffic.requests, 1)
    return Line("error share", share, None, 0.0, _verdict(not traffic.failed), _commonest(traffic))


def auc(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float | None:
    """Return the area under the ROC curve, None when there is only one class.

    The Mann-Whitney U statistic over n1 * n0 with ties counted half: Hanley & McNeil,
    "The meaning and use of the area under a ROC curve", Radiology 143 (1982), 29-36.
    """
    positives = int(np.count_nonzero(labels))
    negatives = labels.size - positives
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]  # ties share their mean rank
    u = float(ranks[labels == 1].sum()) - positives * (positives + 1) / 2.0
    return u / (positives * negatives)


def log_loss(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float | None:
    """Return the mean negative log likelihood, None without rows.

    Clipped at float32's epsilon, as the answers are float32: a sure and wrong answer costs
    16 and not infinity.
    """
    if not labels.size:
        return None
    epsilon = float(np.finfo(np.float32).eps)
    p = np.clip(scores, epsilon, 1.0 - epsilon)
    return float(-np.mean(np.where(labels == 1, np.log(p), np.log1p(-p))))


def _same_questions(candidate: Traffic, stable: Traffic) -> tuple[Traffic, Traffic]:
    """Keep the questions that both sides answered, in the same order.

    Sides that were asked other golden rows (their inputs differ) each keep their own.
    """
    if candidate.golden != stable.golden:
        return candidate, stable
    _, mine, theirs = np.intersect1d(
        candidate.questions, stable.questions, assume_unique=True, return_indices=True
    )
    return _take(candidate, mine), _take(stable, theirs)


def _take(traffic: Traffic, which: NDArray[np.int64]) -> Traffic:
    return replace(
        traffic,
        questions=traffic.questions[which],
        golden_rows=traffic.golden_rows[which],
        labels=traffic.labels[which],
        answers=traffic.answers[which],
    )


def _errors(candidate: Traffic, stable: Traffic, limits: ReleaseLimits) -> Line:
    mine = candidate.failed / max(candidate.requests, 1)
    theirs = stable.failed / max(stable.requests, 1)
    limit = theirs + limits.error_share_rise_max
    return Line("error share", mine, theirs, limit, _verdict(mine <= limit), _commonest(candidate))


def _auc(candidate: Traffic, stable: Traffic, limits: ReleaseLimits) -> Line:
    mine = auc(candidate.labels, candidate.answers)
    theirs = auc(stable.labels, stable.answers)
    if mine is None or theirs is None:
        return Line("AUC", mine, theirs, None, "unknown", "the rows answered have one class")
    limit = theirs - limits.auc_drop_max
    return Line("AUC", mine, theirs, limit, _verdict(mine >= limit))


def _log_loss(candidate: Traffic, stable: Traffic, limits: ReleaseLimits) -> Line:
    mine = log_loss(candidate.labels, candidate.answers)
    theirs = log_loss(stable.labels, stable.answers)
    if mine is None or theirs is None:
        return Line("log loss", mine, theirs, None, "unknown", "no row was answered by both")
    limit = theirs + limits.log_loss_rise_max
    return Line("log loss", mine, theirs, limit, _verdict(mine <= limit))


def _p99(candidate: Traffic, stable: Traffic, limits: ReleaseLimits) -> Line:
    if not candidate.latencies_ms.size or not stable.latencies_ms.size:
        return Line(P99, None, None, None, "unknown", "no request was answered by both")
    mine = float(np.percentile(candidate.latencies_ms, 99))
    theirs = float(np.percentile(stable.latencies_ms, 99))
    limit = max(theirs * limits.p99_ratio_max, theirs + limits.p99_slack_ms)
    return Line(P99, mine, theirs, limit, _verdict(mine <= limit))


def _difference(candidate: Traffic, stable: Traffic) -> Line:
    """Report how far apart the answers are: a new model is meant to answer differently."""
    if candidate.golden != stable.golden:
        return Line("largest difference", None, None, None, "reported", "other golden rows")
    if not candidate.answers.size:
        return Line("largest difference", None, None, None, "reported", "nothing to compare")
    distance = np.abs(candidate.answers - stable.answers)
    detail = f"mean {float(distance.mean()):.4f} over {distance.size} rows"
    return Line("largest difference", float(distance.max()), None, None, "reported", detail)


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
