"""Follow the store: look, compare, take the steps. Effects only; `plan` decides.

Everything slow runs in the background, and a look that hangs holds up neither leases nor
what serves. Changes are made on the event loop, one model after the other, and what the core
serves is replaced in one assignment.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from slipway.bundle.format import short
from slipway.bundle.signing import TrustedKeys
from slipway.errors import BundleRefused, ChannelRefused, SlipwayError
from slipway.host.answer.core import Core
from slipway.host.follow.background import in_background
from slipway.host.follow.counts import FollowCounts
from slipway.host.follow.followed import TEXT_MAX, Followed
from slipway.host.follow.loading import Loader, Opened
from slipway.host.follow.memory import Memory, Remembered
from slipway.host.follow.plan import (
    DropCandidate,
    Forget,
    Load,
    Roles,
    Serve,
    Unload,
    distrust,
    plan,
)
from slipway.host.follow.starting import Running, make_loaded
from slipway.host.follow.watch import Sight, look
from slipway.store.channel import SignedChannel, open_channel
from slipway.store.objects import Store

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Parts:
    """What the reconciler works with."""

    fleet: str
    store: Store
    trusted: TrustedKeys
    memory: Memory
    loader: Loader
    core: Core
    counts: FollowCounts
    running: Running
    """What versions are run with."""
    poll_s: float
    clock: Callable[[], float] = time.monotonic


class Reconciler:
    """Keeps the core at what the channels say."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._models: dict[str, Followed] = {}
        self._wake = asyncio.Event()
        self._looking: asyncio.Future[dict[str, Sight]] | None = None
        self._looked = False
        self._sighted: frozenset[str] = frozenset()
        self._unread: dict[str, str] = {}
        self._reachable: bool | None = None

    def recall(self) -> None:
        """Take up what was applied before a restart; nothing serves until it is checked again."""
        parts = self._parts
        for model, remembered in parts.memory.load().items():
            followed = Followed(memory=remembered, cached=parts.loader.cached(model))
            try:
                envelope = remembered.envelope.encode()
                signed = open_channel(envelope, parts.trusted, parts.fleet, model)
                followed.channel = signed.channel
            except ChannelRefused as refusal:
                self._alarm(model, followed, f"remembered channel refused: {refusal}")
            parts.counts.applied(model, remembered.serial)
            self._models[model] = followed

    async def run(self) -> None:
        """Look and act until cancelled; a fault is logged and the next round tries again."""
        while True:
            self._wake.clear()
            try:
                await self._round()
            except Exception:
                log.exception("reconciling failed; trying again")
            try:
                await asyncio.wait_for(self._wake.wait(), self._parts.poll_s)
            except TimeoutError:
                continue

    def reload(self) -> None:
        """Look at the store now."""
        self._wake.set()

    def status(self) -> dict[str, Any]:
        """Return the models' part of `/status`."""
        now_s = self._parts.clock()
        return {model: followed.status(now_s) for model, followed in self._models.items()}

    async def _round(self) -> None:
        seen = await self._look()
        for model, sight in (seen or {}).items():
            if model not in self._models and not sight.empty:
                self._models[model] = Followed(cached=self._parts.loader.cached(model))
        for model, followed in self._models.items():
            try:
                if seen is not None and model in seen:
                    await self._take_in(model, followed, seen[model])
                await self._follow(model, followed)
                followed.trouble = self._unread.get(model)
            except Exception as error:  # such as a full disk: the other models must not wait
                followed.trouble = f"cannot follow: {error}"[:TEXT_MAX]
                log.exception("reconciling failed; trying again", extra={"model": model})
        self._looked = self._looked or seen is not None
        self._publish()

    async def _look(self) -> dict[str, Sight] | None:
        """Return what the store shows, or None if it cannot be read or takes too long."""
        parts = self._parts
        if self._looking is None:
            work = partial(look, parts.store, parts.fleet, parts.trusted, set(self._models))
            self._looking = in_background(work, "look")
        await asyncio.wait([self._looking], timeout=parts.poll_s)
        if not self._looking.done():
            self._reached(False, "it does not answer")
            return None
        looking, self._looking = self._looking, None
        try:
            seen = looking.result()
        except Exception as error:  # whatever the driver of a file system raises
            self._reached(False, str(error))
            return None
        why = [f"{model}: {sight.unreadable}" for model, sight in seen.items() if sight.unreadable]
        why += [f"{m}: no channel any more" for m in self._models if m in seen and seen[m].empty]
        self._reached(not why, "; ".join(why))
        self._unread = {
            m: f"its channel cannot be read: {s.unreadable}"[:TEXT_MAX]
            for m, s in seen.items()
            if s.unreadable
        }
        self._sighted = frozenset(m for m, s in seen.items() if s.unreadable or not s.empty)
        return {m: sight for m, sight in seen.items() if not (sight.unreadable and sight.empty)}

    def _reached(self, reachable: bool, why: str) -> None:
        self._parts.counts.store_seen(reachable)
        if reachable != self._reachable and not reachable:
            log.warning("the store cannot be read; going on as before", extra={"reason": why})
        elif self._reachable is False and reachable:
            log.info("the store can be read again")
        self._reachable = reachable

    async def _take_in(self, model: str, followed: Followed, sight: Sight) -> None:
        """Apply a newer channel, raise an alarm about one that may not follow, hear the beat."""
        now_s = self._parts.clock()
        for text in sight.alarms:
            self._alarm(model, followed, text)
        signed, memory = sight.channel, followed.memory
        if signed is not None:
            applied = (memory.serial, memory.digest) if memory else None
            problem = distrust(applied, (signed.channel.serial, signed.digest))
            if problem:
                self._alarm(model, followed, problem)
            elif applied is None or signed.channel.serial > applied[0]:
                await self._apply(model, followed, signed, now_s)
            followed.channel = signed.channel if not problem else followed.channel
        if not sight.unreadable:
            followed.lease.observe(sight.beat, now_s)

    async def _apply(
        self, model: str, followed: Followed, signed: SignedChannel, now_s: float
    ) -> None:
        """Remember a channel before acting on it: a crash in between must not forget it."""
        before = followed.memory
        remembered = Remembered(
            serial=signed.channel.serial,
            digest=signed.digest,
            envelope=signed.envelope.decode(),
            stable=before.stable if before else None,
            previous=before.previous if before else None,
            since=before.since if before else None,
        )
        await self._remember(model, followed, remembered)
        if self._looked:
            followed.lease.grant(signed.channel.serial, now_s)
        self._parts.counts.applied(model, signed.channel.serial)
        log.info(
            "channel applied",
            extra={"model": model, "serial": remembered.serial, "reason": signed.channel.reason},
        )

    async def _follow(self, model: str, followed: Followed) -> None:
        """Take the steps towards the channel."""
        if followed.channel is None:
            return
        now_s = self._parts.clock()
        for step in plan(followed.channel, followed.held(now_s), followed.lease_alive(now_s)):
            match step:
                case Load(version):
                    self._start_loading(model, followed, version)
                case DropCandidate(version):
                    self._parts.counts.lease_dropped(model)
                    log.warning("candidate dropped: no beat came", extra=_about(model, version))
                case Serve(roles):
                    self._serve(model, followed, roles)
                case Unload(version):
                    followed.loaded.pop(version).engine.close()
                case Forget(version):
                    followed.cached.discard(version)
                    await in_background(
                        partial(self._parts.loader.forget, model, version), "forget"
                    )
        await self._remember_stable(model, followed)

    def _start_loading(self, model: str, followed: Followed, version: str) -> None:
        followed.loading.add(version)
        log.info("loading", extra=_about(model, version))
        future = in_background(partial(self._parts.loader.load, model, version), "load")
        future.add_done_callback(partial(self._loaded, model, followed, version))

    def _loaded(
        self, model: str, followed: Followed, version: str, future: asyncio.Future[Opened]
    ) -> None:
        """Take in a version that passed its checks, or the reason why it did not."""
        followed.loading.discard(version)
        try:
            opened = future.result()
        except Exception as error:
            reason = str(error) if isinstance(error, SlipwayError) else f"cannot load: {error!r}"
            untried = not isinstance(error, BundleRefused)
            followed.refuse(version, reason, self._parts.clock(), untried=untried)
            followed.cached.discard(version)
            self._parts.counts.bundle_refused(model)
            log.error("version refused", extra={**_about(model, version), "reason": reason})
        else:
            if opened.damage is not None:
                text = f"the copy of {short(version)} in the cache was refused and fetched anew"
                self._alarm(model, followed, f"{text}: {opened.damage}")
            followed.refused.pop(version, None)
            followed.cached.add(version)
            followed.loaded[version] = make_loaded(model, version, opened, self._parts.running)
        self._wake.set()

    def _serve(self, model: str, followed: Followed, roles: Roles) -> None:
        followed.take_roles(roles, datetime.now(UTC).isoformat(timespec="seconds"))
        self._publish()
        log.info("serving", extra={"model": model, **dataclasses.asdict(roles)})

    async def _remember_stable(self, model: str, followed: Followed) -> None:
        """Keep what serves for the time after a restart."""
        memory, stable = followed.memory, followed.roles.stable
        if memory is None or stable is None or stable == memory.stable:
            return
        previous = memory.stable if memory.stable else memory.previous
        changed = {"stable": stable, "previous": previous, "since": followed.since}
        await self._remember(model, followed, memory.model_copy(update=changed))

    async def _remember(self, model: str, followed: Followed, remembered: Remembered) -> None:
        save = partial(self._parts.memory.save, model, remembered)
        await in_background(save, "remember")
        followed.memory = remembered

    def _publish(self) -> None:
        """Hand the core what serves now."""
        core = self._parts.core
        applied = {model: f for model, f in self._models.items() if f.memory is not None}
        core.models = {model: followed.serving() for model, followed in applied.items()}
        core.awaited = self._sighted | self._models.keys() if self._looked else None
        named = [f for f in applied.values() if f.channel is None or f.channel.stable]
        core.ready = bool(named) and all(followed.roles.stable for followed in named)
        self._parts.counts.serving(
            (model, version, followed.roles.of(version))
            for model, followed in self._models.items()
            for version in followed.loaded
        )

    def _alarm(self, model: str, followed: Followed, text: str) -> None:
        if followed.alarm(text):
            self._parts.counts.alarm(model)
            log.error("ALARM", extra={"model": model, "reason": text})


def _about(model: str, version: str) -> dict[str, str]:
    return {"model": model, "version": short(version)}
