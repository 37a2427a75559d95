"""Work out where the marks of the report's charts stand.

Geometry only, as text that goes into SVG attributes: colours live in the style sheet (so
that dark mode and paper need no second picture), and the template writes the elements (so
that everything is escaped in one place). A chart is drawn about as wide as a phone, since
its letters shrink with it; wider screens put two side by side.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from flows.report.facts import History
from slipway.make.build import Measures
from slipway.problem import Measure, Problem
from slipway.problem.record import CalibrationBin
from slipway.statistics.intervals import wilson

BUCKETS = 120
"""Points drawn of a long curve; each stands for the mean and the range of its steps."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """One labelled position along an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A linear map from values to positions, with round ticks."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Give the position of a value; one outside the range stays at the edge."""
        part = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.start + min(max(part, 0.0), 1.0) * (self.end - self.start), 2)

    def ticks(self, wanted: int = 5) -> list[Tick]:
        """Give round values inside the range, with as few digits as tell them apart."""
        step = round_step((self.high - self.low) / wanted)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        if round(step, digits) != step:
            digits += 1  # 0.25 and 2.5 need one more
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [
            Tick(self.at(i * step), f"{i * step:,.{digits}f}".replace("-", "\N{MINUS SIGN}"))
            for i in range(first, last + 1)
        ]


@dataclass(frozen=True)
class Mark:
    """A point with its 95 % interval and the words that a pointer brings up."""

    x: float
    y: float
    low: float
    high: float
    words: str


@dataclass(frozen=True)
class Chart:
    """A drawn plot: ticks, curves by CSS class, marks by CSS class, and one note line."""

    label: str
    x_name: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    width: float = 440
    height: float = 280
    left: float = 48
    right: float = 428
    top: float = 14
    bottom: float = 236
    curves: dict[str, str] = field(default_factory=dict)
    marks: dict[str, list[Mark]] = field(default_factory=dict)
    y_name: str = ""
    note_x: float | None = None
    note_y: float = 24
    note: str = ""


def round_step(rough: float) -> float:
    """Round a tick distance up to 1, 2, 2.5 or 5 times a power of ten."""
    if not rough > 0 or not math.isfinite(rough):
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))


def span(values: Iterable[float], pad: float = 0.06) -> tuple[float, float]:
    """Give a range that leaves some air around the values."""
    known = list(values)
    low, high = min(known), max(known)
    air = (high - low) * pad or abs(high) * pad or 1.0
    return low - air, high + air


def buckets(
    points: Sequence[Point], most: int = BUCKETS
) -> list[tuple[float, float, float, float]]:
    """Thin a curve out to (x, mean, lowest, highest) of runs of neighbouring points."""
    width = math.ceil(len(points) / most) or 1
    runs = [points[i : i + width] for i in range(0, len(points), width)]
    return [
        (fmean(x for x, _ in run), fmean(ys := [y for _, y in run]), min(ys), max(ys))
        for run in runs
    ]


def path(points: Iterable[Point]) -> str:
    """Write points as an SVG path."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def pairs(rows: Iterable[Measures], x: str, y: str) -> list[Point]:
    """Take the (x, y) of the rows that hold both."""
    read = ((row[x], row[y]) for row in rows)
    return [(a, b) for a, b in read if a is not None and b is not None]


def loss_chart(history: History, measure: Measure) -> Chart | None:
    """Draw the training loss (mean and range of neighbouring steps) and the validation loss."""
    steps = pairs(history.steps, "step", "train_loss")
    judged = pairs(history.evaluations, "step", measure.key)
    if len(steps) < 2 and len(judged) < 2:
        return None
    trained = buckets(steps)
    # The first steps start from chance and would flatten all that follows.
    settled = [mean for _, mean, _, _ in trained[min(3, len(trained) // 4) :]]
    x, y = _axes(steps + judged, settled + [value for _, value in judged])
    curves = {}
    if trained:
        upper = [(x.at(at), y.at(high)) for at, _, _, high in trained]
        lower = [(x.at(at), y.at(low)) for at, _, low, _ in reversed(trained)]
        curves["band"] = path(upper + lower) + "Z"
        curves["faint"] = path((x.at(at), y.at(mean)) for at, mean, _, _ in trained)
    return _training_chart(
        f"{measure.title} by training step", history, judged, x=x, y=y, curves=curves
    )


def measure_chart(history: History, measure: Measure) -> Chart | None:
    """Draw a measure of the validation rows over the steps of training."""
    judged = pairs(history.evaluations, "step", measure.key)
    if len(judged) < 2:
        return None
    steps = pairs(history.steps, "step", "train_loss")
    x, y = _axes(steps + judged, [value for _, value in judged])
    name = f"Validation {measure.name} by training step"
    chart = _training_chart(name, history, judged, x=x, y=y, curves={})
    return replace(chart, note_y=chart.bottom - 8)  # the kept point is at the top


def _axes(along: Sequence[Point], values: Sequence[float]) -> tuple[Axis, Axis]:
    low, high = span(values)
    x = Axis(min(0.0, *(at for at, _ in along)), max(at for at, _ in along), 48, 428)
    return x, Axis(low, high, 236, 14)


def _training_chart(
    label: str,
    history: History,
    judged: Sequence[Point],
    x: Axis,
    y: Axis,
    curves: dict[str, str],
) -> Chart:
    """Add what both training charts share: the judged curve, its points and the best step."""
    if judged:
        curves["model"] = path((x.at(at), y.at(value)) for at, value in judged)
    best = history.best_step
    dots = [
        Mark(x.at(at), y.at(value), 0, high=0, words=f"step {at:,.0f}: {value:.4f}")
        for at, value in judged
    ]
    kept = [dot for dot, (at, _) in zip(dots, judged, strict=True) if at == best]
    return Chart(
        label=label,
        x_name="step",
        x_ticks=x.ticks(4),
        y_ticks=y.ticks(),
        curves=curves,
        marks={"dot": dots if len(dots) <= BUCKETS // 2 else [], "kept": kept},
        note_x=x.at(best) if best is not None else None,
        note=f"kept: step {best:,.0f}" if best is not None else "",
    )


def calibration_chart(
    model: Sequence[CalibrationBin], other: Sequence[CalibrationBin], problem: Problem
) -> Chart | None:
    """Draw observed against predicted, with intervals, beside the line of truth.

    `other` is what the chosen model's is drawn beside, in the colour of trees.
    """
    drawn = {"model": model, "tree": other}
    known = [value for one in (*model, *other) for value in (one.predicted, one.observed)]
    if not known:
        return None
    shares = problem.output.range is not None
    low, high = (0.0, min(1.0, max(known) * 1.12)) if shares else span(known)
    x, y = Axis(low, high, 48, 428), Axis(low, high, 306, 26)
    return Chart(
        label=f"Observed against predicted {CURVES[problem.name]}",
        x_name="predicted",
        y_name="observed",
        height=350,
        top=26,
        bottom=306,
        x_ticks=x.ticks(),
        y_ticks=y.ticks(),
        curves={"truth": path([(x.at(low), y.at(low)), (x.at(high), y.at(high))])}
        | {
            who: path((x.at(one.predicted), y.at(one.observed)) for one in bins)
            for who, bins in drawn.items()
            if bins
        },
        marks={
            who: [_calibration_mark(x, y, one, shares=shares) for one in bins]
            for who, bins in drawn.items()
        },
    )


CURVES = {
    "binary": "share of positives",
    "multiclass": "share of right answers",
    "regression": "mean",
}
"""What a calibration curve shows of a problem."""


def _calibration_mark(x: Axis, y: Axis, one: CalibrationBin, *, shares: bool) -> Mark:
    observed, rows = one.observed, one.rows
    low, high = wilson(observed * rows, rows) if rows and shares else (observed, observed)
    words = f"predicted {one.predicted:.4g}, observed {observed:.4g} of {rows:,.0f} rows"
    return Mark(x.at(one.predicted), y.at(observed), y.at(low), high=y.at(high), words=words)
