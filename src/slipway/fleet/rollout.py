"""Plan how a version takes over: pure, from what the channel says to the steps to take."""

from collections.abc import Iterable
from dataclasses import dataclass

from slipway.bundle.format import short
from slipway.store.channel import Channel


@dataclass(frozen=True)
class AlreadyServes:
    """Nothing to release: make sure that the hosts serve it."""

    version: str


@dataclass(frozen=True)
class Refuse:
    """The version was rejected before and does not come back."""

    version: str


@dataclass(frozen=True)
class WriteAnew:
    """Write what the channel says under the next serial: the file of the present one is damaged."""

    version: str


@dataclass(frozen=True)
class DropLeftover:
    """Take back a candidate whose release was killed; that says nothing about it."""

    version: str


@dataclass(frozen=True)
class NoteDown:
    """Add the promotion that a killed release wrote to the channel, not to the ledger."""

    version: str
    previous: str


@dataclass(frozen=True)
class FirstRelease:
    """Nothing to compare with: publish (unless a killed release did), check, then serve."""

    version: str
    publish: bool


@dataclass(frozen=True)
class Canary:
    """Let the candidate answer its share beside stable, then judge."""

    version: str
    stable: str


Step = AlreadyServes | Refuse | WriteAnew | DropLeftover | NoteDown | FirstRelease | Canary


def plan(
    channel: Channel | None,
    version: str,
    *,
    settled: bool | None,
    previous: str | None,
    damaged: bool = False,
) -> list[Step]:
    """Say which steps bring `version` to stable.

    `settled`: the ledger knows the stable version as released. A release that was killed
    between channel and ledger left it unsettled, and the next run finishes that first
    rather than trusting it. `previous` is the stable version before the present one.
    None: the ledger is damaged, and what it said of the stable version may be lost. Then no
    version takes over without being compared, and nothing is noted down that nobody knows.
    `damaged`: hosts cannot read the channel's newest file, so they are given another first.
    """
    if channel is not None and version in channel.rejected and version != channel.stable:
        return [Refuse(version)]
    if channel is None or channel.stable is None:
        return [FirstRelease(version, publish=True)]
    steps: list[Step] = [WriteAnew(channel.stable)] if damaged else []
    if settled is False and previous is None:
        return [*steps, FirstRelease(version, publish=channel.stable != version)]
    if settled is False and previous is not None:
        steps.append(NoteDown(channel.stable, previous))
    if channel.candidate is not None and channel.candidate.version != version and not damaged:
        steps.append(DropLeftover(channel.candidate.version))
    if channel.stable == version:
        return [*steps, AlreadyServes(version)]
    return [*steps, Canary(version, channel.stable)]


def previous_stable(newest_first: Iterable[Channel]) -> str | None:
    """Return the version that was stable last before the present one, unless it was rejected.

    From the channel's own signed past, not from the ledger, which nobody signs: whoever
    can write to the store must not choose what a rollback brings back.
    """
    past = iter(newest_first)
    present = next(past, None)
    if present is None:
        return None
    unwanted = {present.stable, *present.rejected, None}
    return next((c.stable for c in past if c.stable not in unwanted), None)


@dataclass(frozen=True)
class GoBack:
    """Take back what the last release brought."""

    bad: str
    """The version that is rejected."""
    stable: str
    """The version that serves afterwards."""
    was_stable: bool
    """Whether the bad version was stable; else it was the candidate of a running release."""


def plan_rollback(
    channel: Channel | None, previous: str | None, *, candidate_answers: bool
) -> GoBack | str:
    """Say what a rollback takes back, or why there is nothing to go back to.

    While a candidate answers callers, it is what somebody wants to be rid of: rejecting the
    good stable version beside it could not be undone. A candidate that no host runs any
    more was left by a release that was killed, and does not count.
    """
    if channel is None or channel.stable is None:
        return "nothing serves there, so there is nothing to take back"
    if channel.candidate is not None and candidate_answers:
        return GoBack(channel.candidate.version, channel.stable, was_stable=False)
    if previous is None:
        return (
            f"v{short(channel.stable)} has no version before it that was not rejected; stop the"
            " hosts if it must not answer (slipway fleet down), or release another version"
        )
    return GoBack(channel.stable, previous, was_stable=True)


def describe(step: Step, fleet: str, percent: int) -> str:
    """Say what a step does, for --dry-run and for the log."""
    name = f"v{short(step.version)}"
    match step:
        case AlreadyServes():
            return f"{fleet} already serves {name}; nothing to release"
        case Refuse():
            return f"{name} was rejected on {fleet} before and does not come back"
        case WriteAnew():
            return f"write the channel anew, as its newest file is damaged: {name} stays stable"
        case DropLeftover():
            return f"drop candidate {name}, left by a release that was killed"
        case NoteDown():
            return f"note down in the ledger that {name} was promoted by a release that was killed"
        case FirstRelease(publish=True):
            return f"first release on {fleet}: {name} becomes stable, checked but not compared"
        case FirstRelease():
            return f"finish the first release on {fleet} that was killed: check {name}"
        case Canary():
            return (
                f"canary on {fleet}: {name} answers {percent} % of callers beside stable"
                f" v{short(step.stable)}, then is promoted or rejected"
            )
