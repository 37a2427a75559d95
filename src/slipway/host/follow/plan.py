"""Decide what follows from a channel: pure, so every case is a line in a test.

Level-triggered: the whole state is compared each time, never an event, so nothing that was
missed, repeated or cut short leaves a host in another place than its channel says.
"""

from dataclasses import dataclass
from typing import Literal

from slipway.bundle.format import short
from slipway.store.channel import Channel


@dataclass(frozen=True)
class Roles:
    """Which versions of a model serve, by name alone."""

    stable: str | None = None
    candidate: str | None = None
    mode: Literal["shadow", "canary"] = "canary"
    percent: int = 0

    def of(self, version: str) -> str:
        """Name the role of a loaded version."""
        if version == self.candidate:
            return "candidate"
        return "stable" if version == self.stable else "idle"


@dataclass(frozen=True)
class Held:
    """What a host has of one model."""

    roles: Roles = Roles()
    loaded: frozenset[str] = frozenset()
    """Versions that passed every check and can run."""
    busy: frozenset[str] = frozenset()
    """Versions being loaded, and refused ones whose next try is not due."""
    cached: frozenset[str] = frozenset()
    """Versions with a folder in the cache."""
    last: str | None = None
    """The stable version that served last, perhaps before a restart."""
    previous: str | None = None
    """The stable version before that: a roll-back must not wait for a download."""


@dataclass(frozen=True)
class Load:
    """Fetch and check a version; it serves once a later plan says so."""

    version: str


@dataclass(frozen=True)
class Serve:
    """Swap what serves, all at once."""

    roles: Roles


@dataclass(frozen=True)
class DropCandidate:
    """Note that a candidate loses its role because no beat came."""

    version: str


@dataclass(frozen=True)
class Unload:
    """Let go of a loaded version."""

    version: str


@dataclass(frozen=True)
class Forget:
    """Remove a version from the cache."""

    version: str


Step = Load | Serve | DropCandidate | Unload | Forget


def distrust(applied: tuple[int, str] | None, seen: tuple[int, str]) -> str | None:
    """Say why a (serial, digest) may not follow the one applied last, or None if it may.

    Serials only grow and a channel file never changes. Anything else is an old file played
    back, a store restored from a backup or a forgery, and somebody must look.
    """
    if applied is None or seen == applied or seen[0] > applied[0]:
        return None
    if seen[0] < applied[0]:
        return f"the store shows channel serial {seen[0]}, but {applied[0]} was applied before"
    return f"channel serial {seen[0]} now has other contents than those that were applied"


def plan(channel: Channel, held: Held, lease_alive: bool) -> list[Step]:
    """Return the steps from what a host holds towards what its channel says.

    Until the stable version that is wanted passes its checks here, the one that serves goes
    on: a host that cannot follow stays as it is rather than going dark.
    """
    candidate = channel.candidate if lease_alive else None
    stable = _stable(channel, held)
    roles = Roles(stable)
    if candidate and candidate.version in held.loaded and candidate.version != stable:
        roles = Roles(stable, candidate.version, candidate.mode, candidate.percent)
    wanted = _wanted(channel, held, stable, candidate.version if candidate else None)
    steps: list[Step] = [
        Load(version)
        for version in wanted
        if version not in held.loaded | held.busy | set(channel.rejected)
    ]
    dropped = held.roles.candidate
    if dropped and channel.candidate and channel.candidate.version == dropped and not lease_alive:
        steps.append(DropCandidate(dropped))
    if roles != held.roles:
        steps.append(Serve(roles))
    kept = {stable, *wanted}
    steps += [Unload(version) for version in sorted(held.loaded - kept)]
    kept |= {held.last, held.previous}
    steps += [Forget(version) for version in sorted(held.cached - kept - held.busy)]
    return steps


def explain(channel: Channel, held: Held, lease_alive: bool) -> str:
    """Say why the host serves what it serves, in a sentence for people."""
    candidate = channel.candidate
    if channel.stable and channel.stable != held.roles.stable:
        instead = held.roles.stable
        until = f"{short(instead)} goes on serving" if instead else "nothing serves yet"
        return f"{short(channel.stable)} is not loaded; {until}"
    if candidate and not lease_alive:
        return f"no beat for candidate {short(candidate.version)} within {candidate.lease_s:g} s"
    if candidate and held.roles.candidate is None:
        return f"candidate {short(candidate.version)} is not loaded"
    return channel.reason


def _stable(channel: Channel, held: Held) -> str | None:
    """Return the version that answers now; None only if the channel says so or nothing can."""
    if channel.stable is None or channel.stable in held.loaded:
        return channel.stable
    if held.roles.stable is None and held.last in held.loaded:
        return held.last
    return held.roles.stable


def _wanted(channel: Channel, held: Held, stable: str | None, candidate: str | None) -> list[str]:
    """List the versions to be loaded, the most urgent first.

    After a restart the channel's stable version may be one that this host had refused; the
    one that served before is loaded too then, so that something serves.
    """
    fallback = held.last if channel.stable and stable is None else None
    wanted = (channel.stable, fallback, candidate)
    return list(dict.fromkeys(version for version in wanted if version))
