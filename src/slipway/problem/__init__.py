"""What a good answer is: the only place that knows.

Training curves, evaluation, gates, canary, report and card take their measures from here, so
one name is one number everywhere. A problem says nothing about what the inputs are.
"""

from slipway.problem.binary import BINARY
from slipway.problem.multiclass import MULTICLASS
from slipway.problem.record import (
    Answers,
    Class,
    Labels,
    Measure,
    OutputForm,
    Problem,
    Scores,
    Target,
    TargetValues,
    Weights,
)
from slipway.problem.regression import REGRESSION

__all__ = [
    "BINARY",
    "MULTICLASS",
    "PROBLEMS",
    "REGRESSION",
    "Answers",
    "Class",
    "Labels",
    "Measure",
    "OutputForm",
    "Problem",
    "Scores",
    "Target",
    "TargetValues",
    "Weights",
]

PROBLEMS = {each.name: each for each in (BINARY, MULTICLASS, REGRESSION)}
"""By the name that stands in records; a new problem is one entry."""
