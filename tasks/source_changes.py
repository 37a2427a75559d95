"""How new data differs from what was accepted last, and whether that is within limits.

Pure: profiles in, sentences out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.wording import compact, count, share
from tasks.profiles import Bound, ColumnProfile, SourceProfile

if TYPE_CHECKING:
    from slipway.config import AcceptLimits

SHOWN = 0.0005
"""A share of nulls that moved less than this reads the same, and is not shown."""


@dataclass(frozen=True)
class ColumnChange:
    """What became of one column that was read before and is now."""

    name: str
    null_shares: tuple[float, float]
    """Before and now."""
    ranges: tuple[tuple[Bound | None, Bound | None], tuple[Bound | None, Bound | None]]
    """Lowest and highest value, before and now."""
    widened: float
    """How many times as wide as before the range of both together is; 1 of what is no number."""
    frequent: tuple[str, ...]
    """Values that are frequent now and were not."""
    rare: tuple[str, ...]
    """Values that were frequent and are rare now, or gone."""
    distinct: tuple[int | None, int | None]
    """How many values there are, before and now."""

    @property
    def seen(self) -> bool:
        """Whether there is anything to show."""
        before, now = self.null_shares
        moved = abs(now - before) >= SHOWN or self.ranges[0] != self.ranges[1]
        return moved or bool(self.frequent or self.rare) or self.distinct[0] != self.distinct[1]


@dataclass(frozen=True)
class SourceChange:
    """What became of one source; one side is None where it was no source, or is none any more."""

    name: str
    before: SourceProfile | None
    now: SourceProfile | None
    problem: str | None = None
    """Why it cannot be read as the config says."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()
    """Name, type before and now."""
    columns: tuple[ColumnChange, ...] = ()


def compare(
    before: Mapping[str, SourceProfile],
    now: Mapping[str, SourceProfile],
    problems: Mapping[str, str],
) -> tuple[SourceChange, ...]:
    """Return what differs, for each source whose bytes are others than before."""
    names = sorted(before.keys() | now.keys())
    return tuple(
        _compare(name, before.get(name), now.get(name), problems.get(name))
        for name in names
        if _bytes_of(before.get(name)) != _bytes_of(now.get(name))
    )


def describe(change: SourceChange) -> list[str]:
    """Put a change into lines for people."""
    before, now = change.before, change.now
    if now is None:
        return [f"{change.name}: no source any more"]
    lines = [f"{change.name}: {_sizes(before, now)}"]
    lines += [f"  cannot be read as the config says: {change.problem}"] if change.problem else []
    lines += [f"  column added: {name}{_unread(now, name)}" for name in change.added]
    lines += [f"  column removed: {name}" for name in change.removed]
    lines += [f"  column retyped: {name} {old} -> {new}" for name, old, new in change.retyped]
    lines += [
        f"  {column.name}: {'; '.join(_moves(column))}" for column in change.columns if column.seen
    ]
    return lines


def outside(change: SourceChange, limits: "AcceptLimits") -> list[str]:
    """Say where a change leaves the limits; a new source has nothing to be held against."""
    before, now = change.before, change.now
    if now is None:
        return []
    if change.problem is not None or now.rows is None:
        return [f"{change.name}: cannot be read as the config says: {change.problem}"]
    if before is None:
        return []
    if before.rows is None:
        return [f"{change.name}: there is no profile of the accepted data to hold it against"]
    found = _rows_outside(before.rows, now.rows, limits)
    found += [f"column {name} was removed" for name in change.removed]
    found += [f"column {name} was {old}, is {new}" for name, old, new in change.retyped]
    if not limits.new_columns:
        found += [f"column {name} is new; new_columns is false" for name in change.added]
    for column in change.columns:
        found += _column_outside(column, limits)
    return [f"{change.name}: {text}" for text in found]


def _bytes_of(profile: SourceProfile | None) -> str | None:
    return profile.sha256 if profile else None


def _compare(
    name: str, before: SourceProfile | None, now: SourceProfile | None, problem: str | None
) -> SourceChange:
    if before is None or now is None or before.rows is None or now.rows is None:
        return SourceChange(name, before, now, problem=problem)
    had, has = _types(before), _types(now)
    both = [column for column in now.columns if column in before.columns]
    return SourceChange(
        name,
        before,
        now,
        problem=problem,
        added=tuple(sorted(has.keys() - had.keys())),
        removed=tuple(sorted(had.keys() - has.keys())),
        retyped=tuple(
            (column, had[column], has[column])
            for column in sorted(had.keys() & has.keys())
            if had[column] and has[column] and had[column] != has[column]
        ),
        columns=tuple(
            _column_change(
                column, before.columns[column], now.columns[column], rows=(before.rows, now.rows)
            )
            for column in sorted(both)
        ),
    )


def _types(profile: SourceProfile) -> dict[str, str]:
    """Return every column that a file has, with its type where that is known."""
    return {**profile.unread, **{name: column.type for name, column in profile.columns.items()}}


def _column_change(
    name: str, before: ColumnProfile, now: ColumnProfile, rows: tuple[int, int]
) -> ColumnChange:
    counted = before.distinct is not None and now.distinct is not None
    return ColumnChange(
        name=name,
        null_shares=(before.nulls / max(1, rows[0]), now.nulls / max(1, rows[1])),
        ranges=((before.low, before.high), (now.low, now.high)),
        widened=_widened(before, now),
        frequent=tuple(v for v in now.frequent if counted and v not in before.frequent),
        rare=tuple(v for v in before.frequent if v not in now.frequent),
        distinct=(before.distinct, now.distinct),
    )


def _widened(before: ColumnProfile, now: ColumnProfile) -> float:
    """Say how many times as wide the range became; a constant that moves became infinitely so.

    The range of both together counts: a range that moved away is no narrower one.
    """
    bounds = (before.low, before.high, now.low, now.high)
    numbers = [float(bound) for bound in bounds if isinstance(bound, int | float)]
    if len(numbers) < len(bounds):
        return 1.0
    if bounds[:2] == bounds[2:]:
        return 1.0
    width, together = numbers[1] - numbers[0], max(numbers) - min(numbers)
    if not math.isfinite(together):
        return 1.0 if not math.isfinite(width) else math.inf
    return together / width if width else math.inf


def _rows_outside(before: int, now: int, limits: "AcceptLimits") -> list[str]:
    moved = f"rows {count(before)} -> {count(now)}"
    if now < before * (1 - limits.rows_shrink_max):
        return [
            f"{moved}, {share(1 - now / before)} fewer; at most {share(limits.rows_shrink_max)}"
        ]
    if now > before * limits.rows_grow_max:
        return [f"{moved}; at most {limits.rows_grow_max:g} times as many"]
    return []


def _column_outside(column: ColumnChange, limits: "AcceptLimits") -> list[str]:
    found = []
    before, now = column.null_shares
    if abs(now - before) > limits.null_share_change_max:
        moved = f"nulls {share(before)} -> {share(now)}"
        found.append(f"{column.name}: {moved}; at most {share(limits.null_share_change_max)} apart")
    if column.widened > limits.range_widen_max:
        found.append(
            f"{column.name}: range {_range(column)}, {_times(column.widened)}; at most"
            f" {limits.range_widen_max:g} times"
        )
    return found


def _sizes(before: SourceProfile | None, now: SourceProfile) -> str:
    if before is None:
        return f"a new source, {count(now.size_bytes)} bytes, {_rows(now)} rows"
    bytes_ = f"bytes {count(before.size_bytes)} -> {count(now.size_bytes)}"
    moved = ""
    if before.rows and now.rows is not None:
        moved = f" ({(now.rows / before.rows - 1) * 100:+.1f} %)"
    return f"{bytes_}, rows {_rows(before)} -> {_rows(now)}{moved}"


def _rows(profile: SourceProfile) -> str:
    return "unknown" if profile.rows is None else count(profile.rows)


def _unread(profile: SourceProfile, name: str) -> str:
    return " (not read)" if name in profile.unread else ""


def _moves(column: ColumnChange) -> list[str]:
    moves = []
    before, now = column.null_shares
    if abs(now - before) >= SHOWN:
        moves.append(f"nulls {share(before)} -> {share(now)}")
    if column.ranges[0] != column.ranges[1]:
        times = f" ({_times(column.widened)})" if column.widened != 1.0 else ""
        moves.append(f"range {_range(column)}{times}")
    if column.distinct[0] != column.distinct[1]:
        moves.append("values {} -> {}".format(*(_distinct(n) for n in column.distinct)))
    if column.frequent:
        moves.append(f"now frequent: {', '.join(column.frequent)}")
    if column.rare:
        moves.append(f"now rare or gone: {', '.join(column.rare)}")
    return moves


def _range(column: ColumnChange) -> str:
    return " -> ".join("..".join(map(_number, bounds)) for bounds in column.ranges)


def _number(bound: Bound | None) -> str:
    return str(bound) if isinstance(bound, str | int) else compact(bound)


def _times(widened: float) -> str:
    return f"{widened:.3g} times as wide" if math.isfinite(widened) else "infinitely wider"


def _distinct(number: int | None) -> str:
    return "too many to count" if number is None else count(number)
