"""What a good answer is: the only place that knows.

Training curves, evaluation, gates, canary, report and card take their measures from here, so
one name is one number everywhere. A problem says nothing about what the inputs are.
"""

from slipway.problem.binary import BINARY
from slipway.problem.record import Answers, Labels, Measure, OutputForm, Problem

__all__ = ["BINARY", "PROBLEMS", "Answers", "Labels", "Measure", "OutputForm", "Problem"]

PROBLEMS = {each.name: each for each in (BINARY,)}
"""By the name that stands in records; a new problem is one entry."""
