"""Lay out the quality of every slice as rows of dots on one axis of the primary measure per column.

Positions are percent of the plot's width: the rows are HTML, so that they stay readable on
a phone, where a picture of forty rows would not.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from flows.report.charts import Axis, Tick, round_step
from flows.report.facts import Facts
from slipway.make.build import Measures
from slipway.problem import Measure, Problem

SLICES_SHOWN = 40
"""Rows of one plot; a column with more values shows its largest."""


@dataclass(frozen=True)
class Slice:
    """One value of a slice column; positions are percent of the plot's width."""

    value: str
    rows: float
    level: float | None
    """What the problem tells of its target."""
    score: float | None
    """Its primary measure."""
    other_score: float | None
    """The same of the family that it is drawn beside."""
    judged: bool
    """Large enough, and with both classes: its measure means something."""
    at: float | None = None
    low: float | None = None
    high: float | None = None
    other_at: float | None = None


@dataclass(frozen=True)
class SlicePlot:
    """All values of one slice column on one axis of the primary measure."""

    column: str
    ticks: list[Tick]
    overall_at: float | None
    slices: list[Slice]
    left_out: int


def slice_plots(facts: Facts) -> list[SlicePlot]:
    """Lay out the slices of every column on one axis, so that columns compare too."""
    primary = facts.problem.primary
    overall, columns = facts.test[primary.key], facts.metrics.slices
    known = {
        column: [_slice(value, measured, facts) for value, measured in values.items()]
        for column, values in columns.items()
        if values
    }
    bounds = (0.0, 1.0 if primary.higher_is_better else math.inf)
    axis = shared_axis([one for slices in known.values() for one in slices], overall, bounds)
    return [
        SlicePlot(
            column=column,
            ticks=axis.ticks(4),
            overall_at=None if overall is None else axis.at(overall),
            slices=_shown(
                [_placed(one, axis, columns[column][one.value], facts.problem) for one in slices],
                primary,
            ),
            left_out=max(len(slices) - SLICES_SHOWN, 0),
        )
        for column, slices in known.items()
    ]


def shared_axis(
    slices: Iterable[Slice], overall: float | None, bounds: tuple[float, float] = (0.0, 1.0)
) -> Axis:
    """Span the judged slices; whiskers of the smallest may leave it, noise must not set it."""
    values = [score for one in slices if one.judged for score in (one.score, one.other_score)]
    known = [value for value in [*values, overall] if value is not None] or [0.5, 1.0]
    step = round_step((max(known) - min(known)) / 4)
    low, high = math.floor(min(known) / step - 0.25), math.ceil(max(known) / step + 0.25)
    return Axis(max(low * step, bounds[0]), min(high * step, bounds[1]), 0, 100)


def _shown(slices: list[Slice], primary: Measure) -> list[Slice]:
    largest = sorted(slices, key=lambda one: -one.rows)[:SLICES_SHOWN]
    return sorted(largest, key=_reading_order(largest, primary))


def _slice(value: str, measured: Measures, facts: Facts) -> Slice:
    shipped, other = facts.families_in_words
    rows, score = measured.rows or 0, measured[shipped]
    return Slice(
        value=value,
        rows=rows,
        level=measured[facts.problem.level.key],
        score=score,
        other_score=measured[other],
        judged=score is not None and rows >= facts.slice_rows_min,
    )


def _placed(one: Slice, axis: Axis, measured: Measures, problem: Problem) -> Slice:
    score = one.score if one.judged else None
    interval = None if score is None else problem.interval(score, measured.values)
    return replace(
        one,
        at=None if one.score is None else axis.at(one.score),
        low=axis.at(interval[0]) if interval else None,
        high=axis.at(interval[1]) if interval else None,
        other_at=None if one.other_score is None else axis.at(one.other_score),
    )


def _reading_order(
    slices: Iterable[Slice], primary: Measure
) -> Callable[[Slice], tuple[float, ...]]:
    """Keep numbers such as hours in their order; else judged slices first, best first."""
    try:
        order = {one.value: float(one.value) for one in slices}
    except ValueError:
        sign = -1 if primary.higher_is_better else 1
        return lambda one: (not one.judged, sign * (one.score or 0.0), -one.rows)
    return lambda one: (order[one.value],)
