"""What is fitted to a model's answers after training, on rows that chose nothing else before.

A temperature makes probabilities come true as often as they say (Guo et al. 2017), a threshold
is where a probability becomes a decision, a margin is how far a number may be off (split
conformal: Lei et al., "Distribution-free predictive inference for regression", 2018).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slipway.problem.record import Answers, Labels, Problem, Scores, Weights, mean

TEMPERATURES: Final = (0.05, 20.0)
"""No model that is worth anything is over- or underconfident by more."""

STEPS: Final = 60
"""Of the golden-section search: the interval shrinks to 3e-13 of itself."""


@dataclass(frozen=True)
class Calibration:
    """What is put behind a model's scores; part of its graph."""

    temperature: float = 1.0
    threshold: float | None = None
    """A positive answer is a probability of at least this; None: no decision is stated."""
    margin: float | None = None
    """A number lies within so much of the prediction, as often as was asked for."""


def fit_temperature(problem: Problem, labels: Labels, scores: Scores, weights: Weights) -> float:
    """Find the temperature of the smallest log loss; 1 for a problem without probabilities.

    The loss has one minimum in the logarithm of the temperature, which golden sections find.
    """
    if problem.output.range is None:
        return 1.0

    def loss(log_temperature: float) -> float:
        answers = problem.respond(scores, math.exp(log_temperature))
        value = problem.stopping(labels, answers, weights)
        return math.inf if value is None or math.isnan(value) else value

    return round(math.exp(_minimize(loss, *(math.log(each) for each in TEMPERATURES))), 6)


def _minimize(of: Callable[[float], float], low: float, high: float) -> float:
    section = (math.sqrt(5) - 1) / 2
    left, right = high - section * (high - low), low + section * (high - low)
    at_left, at_right = of(left), of(right)
    for _ in range(STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - section * (high - low)
            at_left = of(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + section * (high - low)
            at_right = of(right)
    return (low + high) / 2


def threshold_for_cost(ratio: float) -> float:
    """Return where a missed positive that costs `ratio` false alarms is worth one.

    Elkan, "The foundations of cost-sensitive learning" (2001): 1 / (1 + ratio).
    """
    return 1.0 / (1.0 + ratio)


def threshold_for_recall(
    labels: Labels, answers: Answers, recall: float, weights: Weights
) -> float:
    """Return the highest threshold that finds this share of the positives."""
    curve = _curve(labels, answers, weights)
    reached = curve.hits >= recall * curve.positives - 1e-12
    return float(curve.thresholds[np.argmax(reached)])


def threshold_for_precision(
    labels: Labels, answers: Answers, precision: float, weights: Weights
) -> float | None:
    """Return the lowest threshold above which this share is positive; None where there is none."""
    curve = _curve(labels, answers, weights)
    enough = (curve.hits >= precision * curve.taken - 1e-12) & (curve.taken > 0)
    reached = np.flatnonzero(enough)
    return float(curve.thresholds[reached[-1]]) if reached.size else None


def threshold_for_share(answers: Answers, share: float, weights: Weights) -> float:
    """Return the threshold that this share of rows, the most probable ones, reaches.

    No row reaches it where more than the share are alike at the top.
    """
    curve = _curve(np.zeros(answers.size), answers, weights)
    reached = np.flatnonzero(curve.taken <= share * curve.taken[-1] + 1e-12)
    above = float(np.nextafter(np.float32(curve.thresholds[0]), np.float32(2)))
    return float(curve.thresholds[reached[-1]]) if reached.size else above


@dataclass(frozen=True)
class _Curve:
    thresholds: NDArray[Any]
    """Different answers, the highest first."""
    hits: NDArray[Any]
    """Weight of the positives at or above each."""
    taken: NDArray[Any]
    """Weight of all rows at or above each."""

    @property
    def positives(self) -> float:
        return float(self.hits[-1])


def _curve(labels: Labels, answers: Answers, weights: Weights) -> _Curve:
    weigh = np.ones(answers.size) if weights is None else weights
    different, place = np.unique(-answers, return_inverse=True)
    hits = np.cumsum(np.bincount(place, np.where(labels == 1, weigh, 0.0)))
    return _Curve(-different, hits, np.cumsum(np.bincount(place, weigh)))


def fit_margin(labels: Labels, answers: Answers, level: float) -> float:
    """Return the margin that holds this share of new rows, if they come as these did.

    The ceil((n + 1) * level)-th smallest absolute residual; infinite where there are too few rows.
    """
    residuals = np.sort(np.abs(labels - answers))
    rank = math.ceil((residuals.size + 1) * level)
    return float(residuals[rank - 1]) if rank <= residuals.size else math.inf


def coverage(labels: Labels, answers: Answers, margin: float, weights: Weights) -> float:
    """Return the share of rows that lie within the margin."""
    return mean(np.abs(labels - answers) <= margin, weights)
