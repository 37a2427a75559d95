"""The state of one followed model: what was applied, what is loaded, what went wrong."""

from dataclasses import dataclass, field
from typing import Any, Final

from slipway.host.answer.call import Loaded, Serving
from slipway.host.follow.lease import Lease
from slipway.host.follow.memory import Remembered
from slipway.host.follow.plan import Held, Roles, explain
from slipway.store.channel import Channel

KEPT: Final = 16
"""Refusals and alarms shown; the log has all of them."""

TEXT_MAX: Final = 1000
"""Characters of a refusal or an alarm: some of it comes from whoever wrote into the store."""

RETRY_MAX_S: Final = 300.0
RETRY_FIRST_S: Final = 5.0
"""A refused bundle may be repaired in the store, but each try costs a golden run."""


@dataclass
class Refused:
    """A version that was not loaded."""

    reason: str
    tries: int
    retry_s: float
    """On the host's clock."""
    untried: bool = False
    """Whether the host could not try it, for reasons that are not the version's."""


@dataclass
class Followed:
    """One model; changed on the event loop only."""

    memory: Remembered | None = None
    channel: Channel | None = None
    """What `memory` says, None as long as it cannot be trusted."""
    lease: Lease = field(default_factory=Lease)
    roles: Roles = field(default_factory=Roles)
    loaded: dict[str, Loaded] = field(default_factory=dict)
    loading: set[str] = field(default_factory=set)
    refused: dict[str, Refused] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    alarms: list[str] = field(default_factory=list)
    since: str | None = None
    """When the stable version began to serve, also before a restart."""
    trouble: str | None = None
    """What keeps this host from following the channel."""

    def held(self, now_s: float) -> Held:
        """Return what `plan` compares with the channel."""
        waiting = {version for version, refused in self.refused.items() if now_s < refused.retry_s}
        return Held(
            roles=self.roles,
            loaded=frozenset(self.loaded),
            busy=frozenset(self.loading | waiting),
            cached=frozenset(self.cached),
            last=self.memory.stable if self.memory else None,
            previous=self.memory.previous if self.memory else None,
        )

    def lease_alive(self, now_s: float) -> bool:
        """Tell whether the channel's candidate may serve."""
        if self.channel is None or self.channel.candidate is None:
            return False
        return self.lease.alive(self.channel.serial, self.channel.candidate.lease_s, now_s)

    def serving(self) -> Serving:
        """Return what the core needs."""
        roles = self.roles
        return Serving(
            stable=self.loaded[roles.stable] if roles.stable else None,
            candidate=self.loaded[roles.candidate] if roles.candidate else None,
            mode=roles.mode,
            percent=roles.percent,
            awaited=self._awaited(),
        )

    def _awaited(self) -> tuple[str, ...]:
        """List the versions that are not loaded and may yet be: who asks for one may come again."""
        named = {*self.loading}
        if self.channel is not None and self.channel.stable:
            named.add(self.channel.stable)
        if self.channel is not None and self.channel.candidate:
            named.add(self.channel.candidate.version)
        if self.memory is not None and self.memory.stable and self.roles.stable is None:
            named.add(self.memory.stable)
        return tuple(sorted(named - self.loaded.keys()))

    def take_roles(self, roles: Roles, at: str) -> None:
        """Change what serves."""
        if roles.stable != self.roles.stable:
            memory = self.memory
            resumed = memory is not None and roles.stable == memory.stable
            self.since = memory.since if memory and resumed else at
        if roles.stable is None:
            self.since = None
        self.roles = roles

    def refuse(self, version: str, reason: str, now_s: float, *, untried: bool) -> None:
        """Note that a version could not be loaded, and when to try again."""
        tries = self.refused[version].tries + 1 if version in self.refused else 1
        wait_s = min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** (tries - 1))
        self.refused.pop(version, None)
        self.refused[version] = Refused(reason[:TEXT_MAX], tries, now_s + wait_s, untried)
        while len(self.refused) > KEPT:
            del self.refused[next(iter(self.refused))]

    def alarm(self, text: str) -> bool:
        """Note something that somebody must look at; return False if it is known."""
        text = text[:TEXT_MAX]
        if text in self.alarms:
            return False
        self.alarms = [*self.alarms, text][-KEPT:]
        return True

    def status(self, now_s: float) -> dict[str, Any]:
        """Return what `/status` says about this model."""
        channel, memory = self.channel, self.memory
        reason = "no channel that can be trusted"
        if channel:
            reason = explain(channel, self.held(now_s), self.lease_alive(now_s))
        return {
            "stable": self.roles.stable,
            "candidate": self.roles.candidate,
            "percent": self.roles.percent,
            "mode": self.roles.mode if self.roles.candidate else None,
            "serial": memory.serial if memory else 0,
            "since": self.since,
            "reason": reason,
            "refused": {version: refused.reason for version, refused in self.refused.items()},
            "untried": sorted(v for v, refused in self.refused.items() if refused.untried),
            "trouble": self.trouble,
            "alarms": list(self.alarms),
        }
