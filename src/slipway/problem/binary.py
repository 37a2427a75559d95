"""One of two outcomes: a label is 1 for the positive one, an answer is its probability."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.problem.record import (
    Answers,
    CalibrationBin,
    Labels,
    Level,
    Measure,
    OutputForm,
    Problem,
    Scores,
    Target,
    TargetValues,
    Weights,
    find_class_fault,
    mean,
)
from slipway.statistics.intervals import auc_interval

CALIBRATION_BINS = 15
"""As many as Guo et al., "On calibration of modern neural networks" (2017), measure with."""


def auc(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Return the area under the ROC curve, None when there is only one class.

    The Mann-Whitney U statistic over the weight of all pairs, ties counted half: Hanley &
    McNeil, "The meaning and use of the area under a ROC curve", Radiology 143 (1982), 29-36.
    """
    positive, negative = _class_weights(labels, weights)
    pairs = positive.sum() * negative.sum()
    if not pairs:
        return None
    _, place = np.unique(answers, return_inverse=True)
    ours, theirs = np.bincount(place, positive), np.bincount(place, negative)
    below = np.cumsum(theirs) - theirs / 2.0  # ties share their rank
    return float((ours * below).sum() / pairs)


def average_precision(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Return the mean precision over the recall that each threshold adds; None without a positive.

    Not interpolated: Davis and Goadrich, "The relationship between precision-recall and ROC
    curves" (2006), on why the trapezoid rule is too kind.
    """
    positive, negative = _class_weights(labels, weights)
    if not positive.sum():
        return None
    _, place = np.unique(-answers, return_inverse=True)
    hits, misses = np.bincount(place, positive), np.bincount(place, negative)
    taken = np.cumsum(hits + misses)
    precision = np.divide(np.cumsum(hits), taken, out=np.zeros_like(taken), where=taken > 0)
    return float((hits * precision).sum() / hits.sum())


def log_loss(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Return the mean negative log likelihood, None without rows.

    Clipped at float32's epsilon, as the answers are float32: a sure and wrong answer costs
    16 and not infinity.
    """
    if not labels.size:
        return None
    epsilon = float(np.finfo(np.float32).eps)
    p = np.clip(answers.astype(np.float64), epsilon, 1.0 - epsilon)
    return -mean(np.where(labels == 1, np.log(p), np.log1p(-p)), weights)


def brier(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Return the mean squared difference of probability and outcome (Brier 1950)."""
    return mean((answers.astype(np.float64) - labels) ** 2, weights) if labels.size else None


def calibration(labels: Labels, answers: Answers, bins: int) -> list[CalibrationBin]:
    """Compare predicted with observed shares in bins of equal count; empty ones are left out."""
    order = np.argsort(answers, kind="stable")
    return [
        CalibrationBin(mean(answers[part], None), mean(labels[part], None), part.size)
        for part in np.array_split(order, bins)
        if part.size
    ]


def calibration_error(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Average |predicted - observed| over bins of equal count (Naeini et al., 2015)."""
    parts = np.array_split(np.argsort(answers, kind="stable"), CALIBRATION_BINS)
    weigh = np.ones(labels.size) if weights is None else weights
    parts = [part for part in parts if weigh[part].sum() > 0]
    if not parts:
        return None
    shares = [weigh[part].sum() for part in parts]
    off = [
        abs(mean(answers[part], weigh[part]) - mean(labels[part], weigh[part])) for part in parts
    ]
    return float(np.average(off, weights=shares))


def respond(scores: Scores, temperature: float) -> Answers:
    """Return the probability of the positive outcome [N] from its logit [N, 1]."""
    logits = scores[:, 0].astype(np.float64) / temperature
    answers: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -logits))
    return answers


def describe(labels: Labels, weights: Weights = None) -> dict[str, float]:
    """Count the positive ones, and give their share."""
    rate = mean(labels == 1, weights) if labels.size else 0.0
    return {"positives": int(np.count_nonzero(labels == 1)), "base_rate": rate}


def interval(measured: float, described: Mapping[str, Any]) -> tuple[float, float] | None:
    """Give the interval of an AUC from the counts of rows and positives."""
    positives, rows = described.get("positives"), described.get("rows")
    if positives is None or rows is None:
        return None
    return auc_interval(measured, positives, rows)


def find_target_fault(target: Target, values: TargetValues, where: str) -> str | None:
    """Say what is wrong with values that are to be one of two; both must be there."""
    return find_class_fault(target, values, where, target.classes)


def _class_weights(labels: Labels, weights: Weights) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return each row's weight as a positive one, and as another."""
    weigh = np.ones(labels.size) if weights is None else weights
    positive = np.where(labels == 1, weigh, 0.0)
    return positive, weigh - positive


def _baseline(labels: Labels, target: Target, weights: Weights) -> NDArray[np.float64]:
    return np.array(mean(labels, weights))


AUC = Measure("auc", "AUC", True, auc)
AVERAGE_PRECISION = Measure("average_precision", "average precision", True, average_precision)
LOG_LOSS = Measure("log_loss", "log loss", False, log_loss)
BRIER = Measure("brier", "Brier score", False, brier)
CALIBRATION_ERROR = Measure("ece", "calibration error", False, calibration_error)

BINARY = Problem(
    name="binary",
    task="binary classification",
    output=OutputForm("probability", "FP32", (0.0, 1.0)),
    measures=(AUC, AVERAGE_PRECISION, LOG_LOSS, BRIER, CALIBRATION_ERROR),
    gated=(AUC, LOG_LOSS),
    primary=AUC,
    stopping=LOG_LOSS,
    find_target_fault=find_target_fault,
    respond=respond,
    describe=describe,
    level=Level("base_rate", "base rate", is_share=True),
    baseline=_baseline,
    interval=interval,
    calibration=calibration,
)
