"""One of two outcomes: labels are 0 or 1, an answer is the probability of 1."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from slipway.problem.record import Answers, CalibrationBin, Labels, Measure, OutputForm, Problem
from slipway.statistics.intervals import auc_interval

CALIBRATION_BINS = 15
"""As many as Guo et al., "On calibration of modern neural networks" (2017), measure with."""


def auc(labels: Labels, answers: Answers) -> float | None:
    """Return the area under the ROC curve, None when there is only one class.

    The Mann-Whitney U statistic over n1 * n0 with ties counted half: Hanley & McNeil,
    "The meaning and use of the area under a ROC curve", Radiology 143 (1982), 29-36.
    """
    positives = int(np.count_nonzero(labels))
    negatives = labels.size - positives
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(answers, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]  # ties share their mean rank
    u = float(ranks[labels == 1].sum()) - positives * (positives + 1) / 2.0
    return u / (positives * negatives)


def log_loss(labels: Labels, answers: Answers) -> float | None:
    """Return the mean negative log likelihood, None without rows.

    Clipped at float32's epsilon, as the answers are float32: a sure and wrong answer costs
    16 and not infinity.
    """
    if not labels.size:
        return None
    epsilon = float(np.finfo(np.float32).eps)
    p = np.clip(answers.astype(np.float64), epsilon, 1.0 - epsilon)
    return float(-np.mean(np.where(labels == 1, np.log(p), np.log1p(-p))))


def brier(labels: Labels, answers: Answers) -> float | None:
    """Return the mean squared difference of probability and outcome (Brier 1950)."""
    return float(np.mean((answers.astype(np.float64) - labels) ** 2)) if labels.size else None


def calibration(labels: Labels, answers: Answers, bins: int) -> list[CalibrationBin]:
    """Compare predicted with observed shares in bins of equal count; empty ones are left out."""
    order = np.argsort(answers, kind="stable")
    return [
        CalibrationBin(_mean(answers[part]), _mean(labels[part]), part.size)
        for part in np.array_split(order, bins)
        if part.size
    ]


def calibration_error(labels: Labels, answers: Answers) -> float | None:
    """Average |predicted - observed| over bins of equal count (Naeini et al., 2015)."""
    found = calibration(labels, answers, CALIBRATION_BINS)
    return float(np.mean([abs(b.predicted - b.observed) for b in found])) if found else None


def describe(labels: Labels) -> dict[str, float]:
    """Count the ones, and give their share."""
    return {"positives": int(np.count_nonzero(labels)), "base_rate": _mean(labels)}


def interval(measured: float, described: Mapping[str, Any]) -> tuple[float, float] | None:
    """Give the interval of an AUC from the counts of rows and positives."""
    positives, rows = described.get("positives"), described.get("rows")
    if positives is None or rows is None:
        return None
    return auc_interval(measured, positives, rows)


def _mean(values: Labels | Answers) -> float:
    return float(values.mean(dtype=np.float64))


def find_target_fault(found: set[str], where: str) -> str | None:
    """Say what is wrong with a target that holds these values; None if nothing is."""
    if found == {"0", "1"}:
        return None
    values = ", ".join(sorted(found)[:5])
    if found < {"0", "1"}:
        return f"must hold both 0 and 1 in {where}, found only {values}"
    return f"must hold 0 and 1 only in {where}, found {values}"


AUC = Measure("auc", "AUC", True, auc)
LOG_LOSS = Measure("log_loss", "log loss", False, log_loss)
BRIER = Measure("brier", "Brier score", False, brier)
CALIBRATION_ERROR = Measure("ece", "calibration error", False, calibration_error)

BINARY = Problem(
    name="binary",
    task="binary classification",
    output=OutputForm("probability", "FP32", (0.0, 1.0)),
    measures=(AUC, LOG_LOSS, BRIER, CALIBRATION_ERROR),
    gated=(AUC, LOG_LOSS),
    primary=AUC,
    stopping=LOG_LOSS,
    find_target_fault=find_target_fault,
    describe=describe,
    baseline=_mean,
    interval=interval,
    calibration=calibration,
)
