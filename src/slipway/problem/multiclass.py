"""One of several classes: a label is a class's place, an answer is a probability for each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.problem import binary
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


def log_loss(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Return the mean negative log likelihood, None without rows; clipped as for two classes."""
    if not labels.size:
        return None
    chosen = answers[np.arange(labels.size), labels.astype(np.int64)].astype(np.float64)
    return -mean(np.log(np.clip(chosen, float(np.finfo(np.float32).eps), 1.0)), weights)


def accuracy(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Return the share of rows whose most probable class is the right one."""
    return mean(answers.argmax(axis=1) == labels, weights) if labels.size else None


def macro_f1(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Average the F1 scores of the classes that occur or were said to, each counting alike."""
    if not labels.size:
        return None
    said, weigh = answers.argmax(axis=1), np.ones(labels.size) if weights is None else weights
    size = answers.shape[1]
    there = np.bincount(labels.astype(np.int64), weigh, minlength=size)
    claimed = np.bincount(said, weigh, minlength=size)
    hits = np.bincount(said, np.where(said == labels, weigh, 0.0), minlength=size)
    occurring = there + claimed > 0
    return float((2 * hits[occurring] / (there + claimed)[occurring]).mean())


def auc(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Average the AUC of each class against the rest (Provost and Domingos 2000, unweighted)."""
    each = [
        binary.auc((labels == i).astype(np.int64), answers[:, i], weights)
        for i in range(answers.shape[1] if answers.ndim == 2 else 0)
    ]
    known = [value for value in each if value is not None]
    return float(np.mean(known)) if known else None


def calibration(labels: Labels, answers: Answers, bins: int) -> list[CalibrationBin]:
    """Compare the probability of the most probable class with how often it was the right one."""
    if not labels.size:
        return []
    right = (answers.argmax(axis=1) == labels).astype(np.int64)
    return binary.calibration(right, answers.max(axis=1), bins)


def calibration_error(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Average |said - right| of the most probable class over bins of equal count (Guo 2017)."""
    if not labels.size:
        return None
    right = (answers.argmax(axis=1) == labels).astype(np.int64)
    return binary.calibration_error(right, answers.max(axis=1), weights)


def respond(scores: Scores, temperature: float) -> Answers:
    """Return a probability per class [N, K] from the logits."""
    logits = scores.astype(np.float64) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    answers: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return answers


def describe(labels: Labels, weights: Weights = None) -> dict[str, float]:
    """Count the classes that occur, and give the share of the most frequent one."""
    counts = np.unique(labels, return_counts=True)[1]
    largest = float(counts.max() / labels.size) if labels.size else 0.0
    return {"classes": int(counts.size), "largest_class": largest}


def find_target_fault(target: Target, values: TargetValues, where: str) -> str | None:
    """Say what is wrong with values that are to be classes; at least two must be there."""
    if fault := find_class_fault(target, values, where, ()):
        return fault
    if len(values.counts) < 2:
        found = next(iter(values.counts), "none")
        return f"must hold at least two of its classes in {where}, found only {found!r}"
    return None


def _baseline(labels: Labels, target: Target, weights: Weights) -> NDArray[np.float64]:
    counts = np.bincount(labels.astype(np.int64), weights, minlength=len(target.classes))
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def _interval(measured: float, described: Mapping[str, Any]) -> None:
    return None


LOG_LOSS = Measure("log_loss", "log loss", False, log_loss)
ACCURACY = Measure("accuracy", "accuracy", True, accuracy)
MACRO_F1 = Measure("macro_f1", "macro F1", True, macro_f1)
AUC = Measure("auc_ovr", "AUC of one against the rest", True, auc)
CALIBRATION_ERROR = Measure("ece", "calibration error", False, calibration_error)

MULTICLASS = Problem(
    name="multiclass",
    task="multiclass classification",
    output=OutputForm("probabilities", "FP32", (0.0, 1.0), per_class=True),
    measures=(LOG_LOSS, ACCURACY, MACRO_F1, AUC, CALIBRATION_ERROR),
    gated=(LOG_LOSS, ACCURACY),
    primary=LOG_LOSS,
    stopping=LOG_LOSS,
    find_target_fault=find_target_fault,
    respond=respond,
    describe=describe,
    level=Level("largest_class", "largest class", is_share=True),
    baseline=_baseline,
    interval=_interval,
    calibration=calibration,
)
