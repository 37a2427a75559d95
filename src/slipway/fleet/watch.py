"""Watch hosts take up a channel; they pull, so all that a release can do is look."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from slipway.fleet.client import HostClient, HostStatus, ModelStatus
from slipway.fleet.inventory import Fleet

POLL_S = 0.1
"""A status answer costs the host well under a millisecond."""

DOWN = "does not answer on its admin port"
"""What is said of a host that is not there."""


@dataclass(frozen=True)
class Clock:
    """Time as a release sees it; tests pass their own."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    time_ns: Callable[[], int] = time.time_ns

    def now(self) -> str:
        """Return the time of day in UTC, ISO 8601."""
        return datetime.fromtimestamp(self.time_ns() / 1e9, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Uptake:
    """Which hosts run a version in a role, which refused it, which are still missing."""

    running: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """All hosts run it."""
        return not self.refused and not self.missing

    def __str__(self) -> str:
        """Say per host why it does not run the version."""
        problems = {**self.refused, **self.missing}
        return "; ".join(f"host {name}: {why}" for name, why in sorted(problems.items()))


Role = Literal["stable", "candidate"]


@dataclass(frozen=True)
class Awaited:
    """What hosts are waited for: to run a version in a role, as a channel says."""

    version: str
    role: Role
    serial: int


def uptake(statuses: Mapping[str, HostStatus | None], model: str, awaited: Awaited) -> Uptake:
    """Read from what the hosts say how far they took up a version.

    A refusal counts only from a host that has seen this serial: an older one may be about
    a download that has since been repaired. And it counts only where the host could try the
    version: its full disk says nothing about what it had no room for.
    """
    running: list[str] = []
    refused: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name, status in statuses.items():
        followed = status.models.get(model) if status is not None else None
        if status is None:
            missing[name] = DOWN
        elif status.problem is not None:
            missing[name] = status.problem
        elif followed is None or followed.serial != awaited.serial:
            missing[name] = f"has not taken up channel serial {awaited.serial}{_why(followed)}"
        elif awaited.version in followed.untried:
            why = followed.refused.get(awaited.version, "no reason given")
            missing[name] = f"could not try it ({why})"
        elif awaited.version in followed.refused:
            refused[name] = followed.refused[awaited.version]
        elif _in_role(followed, awaited.role) == awaited.version:
            running.append(name)
        else:
            missing[name] = f"has not loaded it as {awaited.role} ({followed.reason})"
    return Uptake(tuple(running), refused, missing)


def _why(followed: ModelStatus | None) -> str:
    """Say in brackets what the host says about it."""
    if followed is None or not (followed.trouble or followed.alarms):
        return ""
    return f" ({followed.trouble or followed.alarms[-1]})"


def _in_role(followed: ModelStatus, role: Role) -> str | None:
    return followed.stable if role == "stable" else followed.candidate


def wait_for(
    fleet: Fleet,
    model: str,
    awaited: Awaited,
    *,
    client: HostClient,
    clock: Clock,
    wait_s: float,
) -> Uptake:
    """Wait until all hosts run the version, one refuses it, or the time is up."""
    deadline = clock.monotonic() + wait_s
    while True:
        statuses = {host.name: client.status(host) for host in fleet.hosts}
        seen = uptake(statuses, model, awaited)
        if seen.complete or seen.refused or clock.monotonic() >= deadline:
            return seen
        clock.sleep(POLL_S)
