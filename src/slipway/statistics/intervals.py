"""Intervals of 95 % around what was measured on a sample."""

import math

NORMAL_95 = 1.959964
"""The normal distribution's 97.5 % quantile: 95 % lie within so many standard errors."""


def wilson(hits: float, rows: float) -> tuple[float, float]:
    """Return the interval of a share (Wilson 1927); honest where few rows hit."""
    if rows <= 0:
        return 0.0, 1.0
    z2, seen = NORMAL_95**2, hits / rows
    middle = (seen + z2 / (2 * rows)) / (1 + z2 / rows)
    half = math.sqrt(max(seen * (1 - seen) / rows + z2 / (4 * rows**2), 0.0))
    return (
        max(0.0, middle - NORMAL_95 * half / (1 + z2 / rows)),
        min(1.0, middle + NORMAL_95 * half / (1 + z2 / rows)),
    )


def auc_interval(auc: float, positives: float, rows: float) -> tuple[float, float] | None:
    """Return the interval of an AUC (Hanley and McNeil 1982), None with one class only."""
    negatives = rows - positives
    if positives < 1 or negatives < 1:
        return None
    both_positive, both_negative = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (
        auc * (1 - auc)
        + (positives - 1) * (both_positive - auc**2)
        + (negatives - 1) * (both_negative - auc**2)
    ) / (positives * negatives)
    half = NORMAL_95 * math.sqrt(max(variance, 0.0))
    return max(0.0, auc - half), min(1.0, auc + half)
