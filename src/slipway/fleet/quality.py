"""Measure how good probabilities are, by what came true."""

import numpy as np
from numpy.typing import NDArray


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
