"""Decide what may go, and say of the rest why it stays. No file is touched here."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from slipway.runs.run import Run
from slipway.wording import moment

DECISIONS_KEPT = 10
"""The newest decisions of each model count, however old: roll back goes by them."""


@dataclass(frozen=True)
class Rules:
    """How much is kept beside what is needed."""

    now: datetime
    keep_runs: int
    keep_days: float

    def is_recent(self, at: datetime | None) -> bool:
        """Tell whether something is younger than the days to keep; what has no time counts so."""
        return at is None or self.now - at < timedelta(days=self.keep_days)


@dataclass(frozen=True)
class Item:
    """One thing that could go."""

    name: str
    where: tuple[Path | str, ...]
    """Its files in the order in which they go."""
    size_bytes: int


@dataclass(frozen=True)
class Sorting:
    """What of one kind goes, and why the rest stays."""

    kind: str
    goes: tuple[Item, ...]
    kept: Mapping[str, int] = field(default_factory=dict)
    """How many stay, by reason."""

    @property
    def size_bytes(self) -> int:
        """What goes takes this much."""
        return sum(item.size_bytes for item in self.goes)


def sort(kind: str, items: Iterable[Item], reasons: Mapping[str, str]) -> Sorting:
    """Part items into those with a reason to stay, and the others."""
    goes, kept = [], Counter[str]()
    for item in items:
        if (why := reasons.get(item.name)) is None:
            goes.append(item)
        else:
            kept[why] += 1
    return Sorting(kind, tuple(goes), dict(kept))


def reasons_for_runs(
    runs: Sequence[Run], released: Collection[str], named: Collection[str], rules: Rules
) -> dict[str, str]:
    """Say why each record stays; `runs` are the newest first.

    `released` are versions that a ledger says were released, `named` are runs that its decisions
    or a bundle's lineage name.
    """
    reasons = {}
    for place, run in enumerate(runs):
        if run.state == "running":
            reasons[run.run] = "it is running"
        elif run.run in named or run.version in released:
            reasons[run.run] = "a released version leads back to it"
        elif place < rules.keep_runs:
            reasons[run.run] = f"one of the newest {rules.keep_runs}"
        elif rules.is_recent(moment(run.started_at)):
            reasons[run.run] = f"younger than {rules.keep_days:g} days"
    return reasons


@dataclass(frozen=True)
class Stored:
    """One bundle of a store."""

    model: str
    version: str
    written: datetime | None
    """None: the store does not tell."""

    @property
    def name(self) -> str:
        """Its path in the store."""
        return f"bundles/{self.model}/{self.version}"


@dataclass(frozen=True)
class Need:
    """A version that something needs, and what that is."""

    model: str
    version: str
    why: str


def reasons_for_bundles(
    bundles: Iterable[Stored], needs: Iterable[Need], rules: Rules
) -> dict[str, str]:
    """Say why each bundle stays. A rejected version stays rejected without: its channel says so."""
    needed: dict[tuple[str, str], str] = {}
    for need in needs:
        needed.setdefault((need.model, need.version), need.why)
    reasons = {}
    for bundle in bundles:
        if (why := needed.get((bundle.model, bundle.version))) is not None:
            reasons[bundle.name] = why
        elif rules.is_recent(bundle.written):
            reasons[bundle.name] = f"younger than {rules.keep_days:g} days"
    return reasons


def decided(model: str, entries: Sequence[Mapping[str, object]], rules: Rules) -> list[Need]:
    """List the versions that a ledger's decisions need; `entries` are the oldest first.

    That a version serves already is no decision, and a run that has nothing to do notes it daily.
    """
    decisions = [entry for entry in entries if entry["decision"] != "already serves"]
    newest = decisions[-DECISIONS_KEPT:]
    recent = [entry for entry in entries if rules.is_recent(moment(entry["at"]))]
    versions = [entry[key] for entry in [*newest, *recent] for key in ("version", "previous")]
    why = f"the ledger's newest {DECISIONS_KEPT} decisions, or those of {rules.keep_days:g} days"
    return [Need(model, str(version), why) for version in dict.fromkeys(versions) if version]
