"""Part the rows: who trains, stops, chooses and tests, in SQL over a table of any size.

A unit (a day, a group, a row's key) belongs to one part as a whole, by its time or by a hash of
its name, so that new data moves nobody. Each decision has its own hash.
"""

import hashlib
from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from slipway.settings.split import GivenSplit, GroupSplit, TimeSplit
from tasks.tables import TableFacts, quoted, require_columns, text

if TYPE_CHECKING:
    from slipway.settings.split import Period, SplitConfig

TRAIN, STOP, CHOOSE, TEST = "train", "stop", "choose", "test"
PARTS: Final = (TRAIN, STOP, CHOOSE, TEST)
"""Rows that are learned from, end the learning, choose among models, and judge what was chosen."""

_HEX_DIGITS, _HASHES = 12, float(1 << 48)


def fraction_sql(of: str, what_for: str) -> str:
    """Map a text to [0, 1) by the first 48 bits of its SHA-256, in another way for each purpose."""
    digest = f"substr(sha256({text(what_for + ':')} || {of}), 1, {_HEX_DIGITS})"
    return f"(CAST('0x' || {digest} AS UBIGINT) / {_HASHES})"


def fraction(of: str, what_for: str) -> float:
    """Do the same here."""
    digest = hashlib.sha256(f"{what_for}:{of}".encode()).hexdigest()
    return int(digest[:_HEX_DIGITS], 16) / _HASHES


def require_column(split: "SplitConfig", facts: TableFacts) -> None:
    """Refuse to part rows by a column that the table does not have."""
    require_columns(list(facts.schema), [c for c in [getattr(split, "column", None)] if c], "split")


def key_sql(facts: TableFacts) -> str:
    """Name a row by its key; by all that it holds where it has none."""
    parts = (f"coalesce(CAST({quoted(c)} AS VARCHAR), chr(30))" for c in facts.key or facts.schema)
    return f"concat_ws(chr(31), {', '.join(parts)})"


def unit_sql(split: "SplitConfig", facts: TableFacts) -> str:
    """Name the unit that a row belongs to."""
    if isinstance(split, TimeSplit):
        return f"strftime(CAST({quoted(str(facts.time))} AS DATE), '%Y-%m-%d')"
    if isinstance(split, GroupSplit):
        return f"coalesce(CAST({quoted(split.column)} AS VARCHAR), chr(30))"
    return key_sql(facts)


def part_sql(split: "SplitConfig", facts: TableFacts) -> str:
    """Name the part that a row belongs to; NULL for a row outside all of them."""
    unit = unit_sql(split, facts)
    if isinstance(split, TimeSplit):
        chosen = ", ".join(map(text, choosing_days(split.validation, split.choose)))
        cases = [
            (_within(unit, split.train), TRAIN),
            (f"{_within(unit, split.validation)} AND {unit} IN ({chosen})", CHOOSE),
            (_within(unit, split.validation), STOP),
            (_within(unit, split.test), TEST),
        ]
        return _case(cases)
    chooses = f"{fraction_sql(unit, 'choose')} < {split.choose!r}"
    if isinstance(split, GivenSplit):
        validates = _says(split.column, split.validation)
        cases = [
            (_says(split.column, split.train), TRAIN),
            (f"{validates} AND {chooses}", CHOOSE),
            (validates, STOP),
            (_says(split.column, split.test), TEST),
        ]
        return _case(cases)
    place = fraction_sql(unit, "part")
    tested, validated = split.test, split.test + split.validation
    cases = [
        (f"{place} < {tested!r}", TEST),
        (f"{place} < {validated!r} AND {chooses}", CHOOSE),
        (f"{place} < {validated!r}", STOP),
    ]
    return _case(cases, otherwise=TRAIN)


def choosing_days(period: "Period", share: float) -> list[str]:
    """Name the days that choose: those with the smallest hash, at least one but never all.

    The config's own days are counted, so that a day without rows moves no other.
    """
    days = [
        (period.start + timedelta(days=i)).isoformat()
        for i in range((period.end - period.start).days)
    ]
    if len(days) < 2:
        return days
    count = min(len(days) - 1, max(1, round(share * len(days))))
    return sorted(sorted(days, key=lambda day: fraction(day, "choose"))[:count])


def days_of(period: "Period") -> tuple[date, date]:
    """Return a period's first and last day."""
    return period.start, period.end - timedelta(days=1)


def _within(day: str, period: "Period") -> str:
    return f"{day} >= {text(period.start.isoformat())} AND {day} < {text(period.end.isoformat())}"


def _says(column: str, value: object) -> str:
    """Ask whether a column has a value, whatever its type: 0, 0.0 and false's text are told apart
    by the value's own type."""
    if isinstance(value, bool):
        return f"TRY_CAST({quoted(column)} AS BOOLEAN) = {value}"
    if isinstance(value, int):
        return f"TRY_CAST({quoted(column)} AS DOUBLE) = {value}"
    return f"CAST({quoted(column)} AS VARCHAR) = {text(str(value))}"


def _case(cases: Sequence[tuple[str, str]], otherwise: str | None = None) -> str:
    whens = " ".join(f"WHEN {condition} THEN {text(part)}" for condition, part in cases)
    return f"CASE {whens} ELSE {text(otherwise) if otherwise else 'NULL'} END"
