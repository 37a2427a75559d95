"""Say what differs between two runs or versions, causes before what they led to.

Pure. What one side does not know is told apart and never taken for a difference.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from slipway.runs.inputs import SourcePin
from slipway.runs.run import GateResult, Run

Kind = Literal["code", "config", "sources", "libraries", "stages", "metrics", "gates", "version"]

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """One side: what was known of a run or a version, by name, in each kind."""

    name: str
    code: Facts = field(default_factory=dict)
    config: Facts = field(default_factory=dict)
    sources: Facts = field(default_factory=dict)
    libraries: Facts = field(default_factory=dict)
    stages: Facts = field(default_factory=dict)
    metrics: Facts = field(default_factory=dict)
    gates: Facts = field(default_factory=dict)
    version: Facts = field(default_factory=dict)


ORDER: tuple[Kind, ...] = (
    *("code", "config", "sources", "libraries"),
    *("stages", "metrics", "gates", "version"),
)
"""Causes first: what people change, what then ran, and what that came to."""


TOLD_APART = re.compile(r"configs/[^/]+\.yaml|data/[^/]+/sources\.lock|requirements\.lock")
"""Files whose content is compared by itself: as config, sources and libraries."""


@dataclass(frozen=True)
class ChangedFact:
    """One fact that both sides have in another form; None where a side has it not."""

    kind: Kind
    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Comparison:
    """Everything that differs, and what could not be compared."""

    before: str
    after: str
    differences: tuple[ChangedFact, ...]
    unknown: dict[Kind, str]
    """Kinds of which one side knows nothing, with the name of that side, or both."""


def compare(before: Snapshot, after: Snapshot) -> Comparison:
    """List what differs, in the order of cause and effect."""
    differences: list[ChangedFact] = []
    unknown: dict[Kind, str] = {}
    for kind in ORDER:
        ours, theirs = getattr(before, kind), getattr(after, kind)
        if missing := [side.name for side in (before, after) if not getattr(side, kind)]:
            unknown[kind] = " and ".join(missing)
        else:
            differences += _differing(kind, ours, theirs)
    return Comparison(before.name, after.name, tuple(differences), unknown)


def _differing(kind: Kind, before: Facts, after: Facts) -> Iterator[ChangedFact]:
    for name in dict.fromkeys([*before, *after]):
        ours, theirs = before.get(name), after.get(name)
        if ours != theirs:
            yield ChangedFact(kind, name, ours, theirs)


def of_run(run: Run) -> Snapshot:
    """Take from a record what can be compared."""
    return Snapshot(
        name=run.run,
        code=code_facts(run.git.commit, run.git.dirty, run.git.changed),
        config=run.inputs.config,
        sources=source_facts(run.inputs.sources),
        libraries=run.inputs.libraries,
        stages={stage.stage: stage.state for stage in run.stages},
        metrics=run.metrics,
        gates=gate_facts(run.gates),
        version={"version": run.version, "precision": run.precision} if run.version else {},
    )


def code_facts(commit: str | None, dirty: bool, changed: tuple[str, ...]) -> Facts:
    """Name the code: its commit, and what differed from that and is not told in its own kind."""
    if commit is None:
        return {}
    code = [path for path in changed if not TOLD_APART.fullmatch(path)]
    return {"commit": commit, "uncommitted": ", ".join(code) if dirty and code else "nothing"}


def source_facts(pins: Mapping[str, SourcePin]) -> Facts:
    """Name what was read of each source; of rows only where both sides may have counted."""
    return {
        f"{source}.{name}": value
        for source, pin in pins.items()
        for name, value in (("rows", pin.rows), ("sha256", pin.sha256), ("url", pin.url))
        if value is not None
    }


def gate_facts(gates: tuple[GateResult, ...]) -> Facts:
    """Name what was measured and what it was held to, by precision and gate."""
    return {
        f"{gate.precision} {gate.gate}".strip(): f"{gate.measured!r} ({gate.verdict},"
        f" limit {gate.limit!r})"
        for gate in gates
    }
