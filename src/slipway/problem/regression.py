"""A number: labels and answers are in the target's own unit."""

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
    mean,
    shown,
)


def rmse(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Return the root of the mean squared error, None without rows."""
    if not labels.size:
        return None
    return float(np.sqrt(mean((answers.astype(np.float64) - labels) ** 2, weights)))


def mae(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Return the mean absolute error, None without rows."""
    return mean(np.abs(answers.astype(np.float64) - labels), weights) if labels.size else None


def r2(labels: Labels, answers: Answers, weights: Weights = None) -> float | None:
    """Return the share of the variance that the answers explain; None where there is none."""
    if not labels.size:
        return None
    spread = mean((labels - mean(labels, weights)) ** 2, weights)
    if not spread:
        return None
    return 1.0 - mean((answers.astype(np.float64) - labels) ** 2, weights) / spread


def pinball(labels: Labels, answers: Answers, quantile: float, weights: Weights = None) -> float:
    """Return the mean pinball loss of answers that are to be a quantile (Koenker, Bassett 1978)."""
    off = labels - answers.astype(np.float64)
    return mean(np.maximum(quantile * off, (quantile - 1.0) * off), weights)


def calibration(labels: Labels, answers: Answers, bins: int) -> list[CalibrationBin]:
    """Compare predicted with observed means in bins of equal count; empty ones are left out."""
    order = np.argsort(answers, kind="stable")
    return [
        CalibrationBin(mean(answers[part], None), mean(labels[part], None), part.size)
        for part in np.array_split(order, bins)
        if part.size
    ]


def respond(scores: Scores, temperature: float) -> Answers:
    """Return the numbers [N]; no temperature changes them."""
    answers: NDArray[np.float64] = scores[:, 0].astype(np.float64)
    return answers


def describe(labels: Labels, weights: Weights = None) -> dict[str, float]:
    """Give the mean and the spread."""
    if not labels.size:
        return {"mean": 0.0, "std": 0.0}
    middle = mean(labels, weights)
    return {"mean": middle, "std": float(np.sqrt(mean((labels - middle) ** 2, weights)))}


def find_target_fault(target: Target, values: TargetValues, where: str) -> str | None:
    """Say what is wrong with values that are to be numbers."""
    if values.kind not in ("whole number", "number"):
        return (
            f"must be a number in {where}, is a {values.kind} ({shown(values.counts)}); CAST it in"
            " ingest.query, without units and thousands separators"
        )
    if values.missing or values.not_finite:
        what = "no value" if values.missing else "NaN or an infinite value"
        return (
            f"has {what} in {values.missing or values.not_finite:,} of {values.rows:,} rows of"
            f" {where}; leave them out in ingest.query (WHERE isfinite({target.name}))"
        )
    if len(values.counts) < 2 and not values.more_values:
        return f"must vary in {where}, is {shown(values.counts) or 'nowhere'} in every row"
    return None


def _baseline(labels: Labels, target: Target, weights: Weights) -> NDArray[np.float64]:
    return np.array(mean(labels, weights))


def _interval(measured: float, described: Mapping[str, Any]) -> None:
    return None


RMSE = Measure("rmse", "RMSE", False, rmse, in_unit=True)
MAE = Measure("mae", "MAE", False, mae, in_unit=True)
R2 = Measure("r2", "R²", True, r2)

REGRESSION = Problem(
    name="regression",
    task="regression",
    output=OutputForm("prediction", "FP32", None),
    measures=(RMSE, MAE, R2),
    gated=(RMSE, MAE),
    primary=RMSE,
    stopping=RMSE,
    find_target_fault=find_target_fault,
    respond=respond,
    describe=describe,
    level=Level("mean", "mean", is_share=False),
    baseline=_baseline,
    interval=_interval,
    calibration=calibration,
)
