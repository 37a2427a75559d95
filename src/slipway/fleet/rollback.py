"""Take back the last release: one signed channel, no flow, no build.

What is taken back is rejected, so that the next nightly run does not bring it again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from slipway.bundle.format import short
from slipway.errors import SlipwayError
from slipway.fleet.client import HostStatus
from slipway.fleet.controller import Controller
from slipway.fleet.rollout import GoBack, plan_rollback, previous_stable
from slipway.fleet.watch import Awaited
from slipway.store.channel import Channel

WAIT_S = 30.0
"""Hosts keep the stable version before this one in their cache, so a few polls are enough."""


@dataclass(frozen=True)
class Rollback:
    """What a rollback did."""

    model: str
    fleet: str
    rejected: str
    """The version taken back."""
    stable: str
    """The version that serves."""
    reason: str
    serial: int | None
    """The channel that says so; None when only planned."""
    hosts: Mapping[str, str]
    """Per host, what it does about it."""
    ok: bool
    """Whether every host that answers serves the version."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def rollback(
    controller: Controller, *, dry_run: bool = False, wait_s: float = WAIT_S, why: str = ""
) -> Rollback:
    """Go back to the stable version before this one, or drop the candidate that answers now.

    Written at once, whatever hosts are down: they read the channel when they come back.
    """
    past = controller.newest_first()
    present = controller.present()
    channel = present.channel
    if present.damage is not None:
        controller.say(present.damage)
    step = plan_rollback(
        channel, previous_stable(past), candidate_answers=_candidate_answers(controller, channel)
    )
    if isinstance(step, str):
        raise SlipwayError(
            f"cannot roll back {controller.model} on {controller.fleet.name}: {step}"
        )
    reason = _reason(step) + (f": {why}" if why else "")
    done = Rollback(
        model=controller.model,
        fleet=controller.fleet.name,
        rejected=step.bad,
        stable=step.stable,
        reason=reason,
        serial=None,
        hosts={},
        ok=True,
    )
    if dry_run:
        return done
    channel = controller.write(channel, stable=step.stable, rejected=(step.bad,), reason=reason)
    decision = "rolled back" if step.was_stable else "rejected"
    controller.record(
        decision, step.bad, previous=step.stable, serial=channel.serial, reason=reason
    )
    return _watch(controller, replace(done, serial=channel.serial), channel.serial, wait_s)


def _candidate_answers(controller: Controller, channel: Channel | None) -> bool:
    """Tell whether callers may be answered by the candidate: a host that does not tell may do so.

    To take back a candidate too much costs a second rollback, a stable too much its version.
    """
    if channel is None or channel.candidate is None:
        return False
    asked = {host.name: controller.client.status(host) for host in controller.fleet.hosts}
    models = [s.models.get(controller.model) for s in asked.values() if s is not None]
    if any(t is not None and t.candidate == channel.candidate.version for t in models):
        return True
    if mute := [name for name, status in asked.items() if not _tells(status)]:
        controller.say(
            f"host {', '.join(mute)} does not tell whether the candidate answers there, so it"
            " counts as if it did; a second rollback takes stable back"
        )
    return bool(mute)


def _tells(status: HostStatus | None) -> bool:
    """Tell a host that says what it serves from one that is down or refuses to say it."""
    return status is not None and not (status.problem and not status.models)


def _watch(controller: Controller, done: Rollback, serial: int, wait_s: float) -> Rollback:
    """Wait for the hosts that answer; the others take it up when they come back."""
    asked = {host.name: controller.client.status(host) for host in controller.fleet.hosts}
    up = tuple(host for host in controller.fleet.hosts if _tells(asked[host.name]))
    hosts = {
        name: (status and status.problem) or "down; takes it up when it starts"
        for name, status in asked.items()
    }
    if not up:
        return replace(done, hosts=hosts)
    reachable = replace(controller, fleet=replace(controller.fleet, hosts=up))
    seen = reachable.wait(Awaited(done.stable, "stable", serial), wait_s)
    hosts |= dict.fromkeys(seen.running, "serves it") | {**seen.refused, **seen.missing}
    return replace(done, hosts=hosts, ok=seen.complete)


def _reason(step: GoBack) -> str:
    what = "stable" if step.was_stable else "candidate"
    again = "serves again" if step.was_stable else "goes on serving"
    return f"{what} v{short(step.bad)} was taken back and rejected; v{short(step.stable)} {again}"
