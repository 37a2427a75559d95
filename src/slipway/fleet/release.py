"""Release one version on one fleet: plan, carry out, judge, and tell what happened.

Stable never stops: all that changes before the verdict is that some callers are answered by
the candidate. A release may be killed at any moment: its lease runs out, the hosts drop the
candidate by themselves, and the next release goes on from what the channel says.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from slipway.bundle.format import short
from slipway.config import ReleaseConfig
from slipway.errors import SlipwayError
from slipway.fleet.controller import Controller
from slipway.fleet.present import Present
from slipway.fleet.rollout import (
    AlreadyServes,
    Canary,
    DropLeftover,
    FirstRelease,
    NoteDown,
    Refuse,
    Step,
    WriteAnew,
    describe,
    plan,
    previous_stable,
)
from slipway.fleet.takeover import (
    RELEASED,
    Conclusion,
    Decision,
    already_serves,
    canary,
    first_release,
)
from slipway.fleet.watch import Awaited
from slipway.store.channel import Candidate, Channel


@dataclass(frozen=True)
class Release:
    """What a release did, with every number behind it."""

    model: str
    fleet: str
    version: str
    previous: str | None
    """The stable version before."""
    decision: Decision
    reason: str
    serial: int | None
    """The channel that carries the decision."""
    started_at: str
    seconds: float
    hosts: tuple[Mapping[str, str], ...]
    """Name and URL of each host."""
    steps: tuple[str, ...]
    """What was planned, in words."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """`lines`: every measure with its limit and verdict; `candidate` and `stable`: each side."""

    @property
    def ok(self) -> bool:
        """Whether the version now serves, or would."""
        return self.decision in (*RELEASED, "already serves", "planned")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {"ok": self.ok}


def release(
    controller: Controller, version: str, config: ReleaseConfig, *, dry_run: bool = False
) -> Release:
    """Bring a version of the store to stable, or say why it may not.

    The outcome is returned, a rejection too; SlipwayError is for what says nothing about
    the version: a host that is down, a store that cannot be written, a lost race.
    """
    started, started_at = controller.clock.monotonic(), controller.clock.now()
    present = controller.present()
    channel = present.channel
    before = channel.stable if channel is not None else None
    if present.damage is not None:
        controller.say(present.damage)
    for path, problem in controller.history().damaged.items():
        controller.say(
            f"the ledger is damaged, going on without {path} in {controller.store.url}: {problem}."
            " See slipway verify --all"
        )
    steps = _plan(controller, present, version)
    words = tuple(describe(step, controller.fleet.name, config.percent) for step in steps)
    if dry_run:
        planned: Decision = "refused" if isinstance(steps[-1], Refuse) else "planned"
        outcome = Conclusion(planned, "; then ".join(words))
    else:
        outcome = _execute(controller, channel, steps=steps, words=words, config=config)
    return Release(
        model=controller.model,
        fleet=controller.fleet.name,
        version=version,
        previous=before if before != version else None,
        decision=outcome.decision,
        reason=outcome.reason,
        serial=outcome.serial,
        started_at=started_at,
        seconds=round(controller.clock.monotonic() - started, 2),
        hosts=tuple({"name": host.name, "url": host.url} for host in controller.fleet.hosts),
        steps=words,
        numbers=outcome.numbers,
    )


def serves(controller: Controller, version: str) -> bool:
    """Tell whether a release would find the version stable on every host, and nothing to do."""
    present = controller.present()
    channel = present.channel
    if channel is None or _plan(controller, present, version) != [AlreadyServes(version)]:
        return False
    return controller.wait(Awaited(version, "stable", channel.serial), 0.0).complete


def _plan(controller: Controller, present: Present, version: str) -> list[Step]:
    channel, damaged = present.channel, present.damage is not None
    stable = channel.stable if channel is not None else None
    history = controller.history()
    settled: bool | None = any(
        entry["version"] == stable and entry["decision"] in RELEASED for entry in history.entries
    )
    if not settled and history.damaged:
        settled = None
    previous = previous_stable(controller.newest_first()) if settled is False else None
    return plan(channel, version, settled=settled, previous=previous, damaged=damaged)


def _execute(
    controller: Controller,
    channel: Channel | None,
    steps: list[Step],
    words: tuple[str, ...],
    config: ReleaseConfig,
) -> Conclusion:
    """Carry out the steps in order; the last one ends the release."""
    if channel is not None and channel.candidate is not None:
        _refuse_if_a_release_runs(controller, channel.candidate)
    for step, text in zip(steps, words, strict=True):
        controller.say(text)
        match step:
            case Refuse():
                return Conclusion("refused", _why_rejected(controller, step.version))
            case WriteAnew():
                assert channel is not None
                channel = controller.write(channel, stable=step.version, reason=text)
            case DropLeftover():
                assert channel is not None
                channel = controller.write(channel, stable=channel.stable, reason=text)
            case NoteDown():
                assert channel is not None
                controller.record(
                    "promoted",
                    step.version,
                    previous=step.previous,
                    serial=channel.serial,
                    reason=text,
                )
            case AlreadyServes():
                assert channel is not None
                return already_serves(controller, channel, step, config)
            case FirstRelease():
                return first_release(controller, channel, step, config)
            case Canary():
                assert channel is not None
                return canary(controller, channel, step, config)
    raise AssertionError("a plan ends with a step that ends the release")


def _refuse_if_a_release_runs(controller: Controller, candidate: Candidate) -> None:
    """Tell a candidate whose release runs elsewhere from one whose release was killed."""
    controller.say(
        f"candidate v{short(candidate.version)} is still in the channel; watching whether a"
        " release renews its lease"
    )
    if controller.lease_moves(candidate.lease_s):
        raise SlipwayError(
            f"another release of {controller.model} on {controller.fleet.name} is running (its"
            f" candidate is v{short(candidate.version)}); wait for its end, then run again"
        )


def _why_rejected(controller: Controller, version: str) -> str:
    past = [e for e in controller.ledger() if e["version"] == version]
    entry = next((e for e in reversed(past) if e["decision"] in ("rejected", "rolled back")), None)
    why = f" at {entry['at']}: {entry['reason']}" if entry else ""
    return (
        f"v{short(version)} was rejected on {controller.fleet.name}{why}. A rejected version does"
        " not come back; change the data, config or code so that a new version is built, or push"
        " another (slipway bundle push)"
    )
