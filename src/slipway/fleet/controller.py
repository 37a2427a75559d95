"""The hands of a release: the only place that writes channel, lease and ledger.

It decides nothing. Whoever lost a race for a serial learns it here and stops, so two
releases never take turns at undoing each other.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.bundle.signing import TrustedKeys
from slipway.errors import AlreadyExists, SlipwayError
from slipway.fleet.client import HostClient, HttpClient
from slipway.fleet.inventory import Credentials, Fleet
from slipway.fleet.present import ChannelFiles, Present, past, read_present
from slipway.fleet.watch import Awaited, Clock, Uptake, wait_for
from slipway.store.channel import (
    Candidate,
    Channel,
    next_channel,
    write_channel,
)
from slipway.store.lease import beat, read_beat
from slipway.store.ledger import Ledger, append, read_ledger
from slipway.store.objects import Store

BEATS_PER_LEASE = 3
"""Two beats may be lost before hosts drop the candidate."""


@dataclass(frozen=True)
class Controller:
    """One model on one fleet, and everything needed to change what it serves."""

    fleet: Fleet
    model: str
    store: Store
    release_key: Path
    client: HostClient
    clock: Clock
    say: Callable[[str], None]
    run: str | None = None
    """Which run writes; goes into the ledger."""

    @classmethod
    def open(
        cls,
        fleet: Fleet,
        model: str,
        release_key: Path,
        say: Callable[[str], None],
        run: str | None = None,
        credentials: Credentials | None = None,
    ) -> "Controller":
        """Take the fleet's own store, real hosts and the real clock.

        `credentials` stand in for those of the fleet.
        """
        return cls(
            fleet=fleet,
            model=model,
            store=Store(fleet.store),
            release_key=release_key,
            client=HttpClient(fleet.credentials if credentials is None else credentials),
            clock=Clock(),
            say=say,
            run=run,
        )

    @property
    def trusted(self) -> TrustedKeys:
        """The keys that the fleet's hosts trust."""
        return TrustedKeys.load(self.fleet.trusted_keys)

    def channel(self) -> Channel | None:
        """Return the channel as it stands."""
        return self.present().channel

    def present(self) -> Present:
        """Return the channel as it stands, and what is damaged about it."""
        return read_present(self._shelf, self.history, self._reported)

    def newest_first(self) -> Iterator[Channel]:
        """Return the channel and its past, read only as far back as the caller looks."""
        present = self.channel()
        if present is not None:
            yield present
            yield from past(self._shelf, present.serial, self.say)

    def write(
        self,
        current: Channel | None,
        *,
        stable: str | None,
        candidate: Candidate | None = None,
        rejected: tuple[str, ...] = (),
        reason: str,
    ) -> Channel:
        """Write the serial after `current`; `rejected` is added to what was rejected before."""
        before = current.rejected if current is not None else []
        channel = next_channel(
            current,
            fleet=self.fleet.name,
            model=self.model,
            stable=stable,
            candidate=candidate,
            rejected=[*before, *(v for v in rejected if v not in before)],
            reason=reason,
            issued_at=self.clock.now(),
        )
        try:
            return write_channel(self.store, channel, self.release_key).channel
        except AlreadyExists:
            raise SlipwayError(
                f"somebody else wrote channel serial {channel.serial} of {self.model} on"
                f" {self.fleet.name} while this ran, so this stops and changes nothing more;"
                " see what serves: slipway status"
            ) from None

    def record(
        self,
        decision: str,
        version: str,
        *,
        previous: str | None,
        serial: int,
        reason: str,
        numbers: dict[str, Any] | None = None,
    ) -> None:
        """Add a decision to the ledger."""
        entry = {
            "at": self.clock.now(),
            "decision": decision,
            "version": version,
            "previous": previous,
            "serial": serial,
            "reason": reason,
            "numbers": numbers or {},
            "run": self.run,
        }
        append(self.store, self.fleet.name, self.model, entry)

    def ledger(self) -> list[dict[str, Any]]:
        """Return every decision so far, oldest first; those that can be read."""
        return self.history().entries

    def history(self) -> Ledger:
        """Return every decision so far, and what is damaged of the record."""
        return read_ledger(self.store, self.fleet.name, self.model)

    def wait(self, awaited: Awaited, wait_s: float) -> Uptake:
        """Wait until the hosts have taken up a version."""
        return wait_for(
            self.fleet, self.model, awaited, client=self.client, clock=self.clock, wait_s=wait_s
        )

    @contextmanager
    def beating(self, serial: int, lease_s: float) -> Iterator[None]:
        """Renew the candidate's lease in the background for as long as the block runs.

        When this process dies the beats end with it, and every host drops the candidate.
        """
        number = self._last_beat() + 1
        self._beat(serial, number)
        done = threading.Event()

        def renew() -> None:
            following = number + 1
            while not done.wait(lease_s / BEATS_PER_LEASE):
                try:
                    self._beat(serial, following)
                    following += 1
                except (SlipwayError, OSError) as error:
                    self.say(f"the candidate's lease could not be renewed: {error}")

        thread = threading.Thread(target=renew, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def lease_moves(self, lease_s: float) -> bool:
        """Tell whether some release renews this model's lease now, by watching for a beat."""
        before = self._last_beat()
        self.clock.sleep(lease_s / BEATS_PER_LEASE * 1.5)
        return self._last_beat() != before

    @property
    def _shelf(self) -> ChannelFiles:
        return ChannelFiles(self.store, self.fleet, self.model, self.trusted)

    def _reported(self) -> int:
        """Return the highest serial that a host says it has applied."""
        asked = [self.client.status(host) for host in self.fleet.hosts]
        models = [status.models.get(self.model) for status in asked if status is not None]
        return max([0, *(model.serial for model in models if model is not None)])

    def _last_beat(self) -> int:
        last = read_beat(self.store, self.fleet.name, self.model, self.trusted)
        return last.beat if last is not None else 0

    def _beat(self, serial: int, number: int) -> None:
        beat(
            self.store,
            self.fleet.name,
            model=self.model,
            serial=serial,
            number=number,
            private_key=self.release_key,
        )
