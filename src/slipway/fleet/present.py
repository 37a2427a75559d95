"""Find out what a channel says now, also where its newest file is damaged or missing.

What a host applied last is signed as the store's own files are, so its copy on this machine is
as good as the file. Without one, the newest intact file is older than what was decided since:
what the ledger calls rejected stays so, and where that cannot be told nothing goes on.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from slipway.bundle.signing import TrustedKeys
from slipway.errors import ChannelRefused, SlipwayError
from slipway.fleet.inventory import Fleet
from slipway.store.channel import (
    Channel,
    SignedChannel,
    next_channel,
    open_channel,
    read_serial,
    serial_path,
    serials,
)
from slipway.store.ledger import Ledger
from slipway.store.objects import Store

TAKEN_BACK = ("rejected", "rolled back")
"""Decisions of the ledger after which a version does not come back."""


@dataclass(frozen=True)
class ChannelFiles:
    """Where a channel lies, and who may vouch for it."""

    store: Store
    fleet: Fleet
    model: str
    trusted: TrustedKeys

    def path(self, serial: int) -> str:
        """Name the file of a serial."""
        return serial_path(self.fleet.name, self.model, serial)

    def read(self, serial: int) -> Channel:
        """Return one serial; raise SlipwayError that names its file if it is not intact."""
        fleet = self.fleet.name
        signed = read_serial(self.store, fleet, self.model, serial=serial, trusted=self.trusted)
        return signed.channel


@dataclass(frozen=True)
class Present:
    """What a channel says now."""

    channel: Channel | None
    """None where there never was one."""
    damage: str | None = None
    """What is wrong in the store, and where `channel` comes from; None: nothing is."""


def read_present(
    shelf: ChannelFiles, history: Callable[[], Ledger], reported: Callable[[], int]
) -> Present:
    """Return what the channel says, or raise ChannelRefused where that cannot be told.

    `reported` asks the hosts for the highest serial that one of them has applied. It is asked,
    and the ledger read, only where the newest file is damaged and no copy of it is here.
    """
    there = serials(shelf.store, shelf.fleet.name, shelf.model)
    copies = applied(shelf.fleet, shelf.model, shelf.trusted)
    newest = max([0, *there, *copies])
    if newest == 0:
        return Present(None)
    problem = f"store {shelf.store.url}: {shelf.path(newest)} is missing"
    if newest in there:
        try:
            return Present(shelf.read(newest))
        except SlipwayError as error:
            problem = f"store {shelf.store.url}: {error}"
    if newest in copies:
        return Present(
            copies[newest].channel, f"{problem}; a host of this machine has it as it was"
        )
    channel = _reconstructed(shelf, newest, problem, history=history(), reported=reported())
    return Present(channel, f"{problem}; going on from an older serial and the ledger")


def past(shelf: ChannelFiles, before: int, say: Callable[[str], None]) -> Iterator[Channel]:
    """Return the serials before one, the newest first, read only as far as the caller looks."""
    for serial in range(before - 1, 0, -1):
        try:
            yield shelf.read(serial)
        except SlipwayError as error:
            say(f"passed over: {error}. See slipway verify --all")


def applied(fleet: Fleet, model: str, trusted: TrustedKeys) -> dict[int, SignedChannel]:
    """Return the channels that hosts of this machine applied last, by serial; intact ones."""
    found = {}
    for path in fleet.state.glob(f"*/applied/{model}.json"):
        try:
            envelope = json.loads(path.read_bytes())["envelope"].encode()
            signed = open_channel(envelope, trusted, fleet.name, model)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ChannelRefused):
            continue
        found[signed.channel.serial] = signed
    return found


def _reconstructed(
    shelf: ChannelFiles, serial: int, problem: str, *, history: Ledger, reported: int
) -> Channel:
    """Make a channel in the place of one that nobody has, from what is known to be true."""
    older = list(past(shelf, serial, lambda line: None))
    if reported >= serial:
        raise _stuck(problem, "hosts serve by it, and no copy of it is on this machine")
    if history.damaged:
        raise _stuck(problem, "the ledger is damaged, too, so what it rejected is not known")
    if not older:
        raise _stuck(problem, "no older serial is intact")
    back = [e["version"] for e in history.entries if e["decision"] in TAKEN_BACK and e["version"]]
    rejected = [*older[0].rejected, *back]
    stable = next((c.stable for c in older if c.stable and c.stable not in rejected), None)
    if stable is None and older[0].stable is not None:
        raise _stuck(problem, "every stable version of before was rejected")
    following = next_channel(
        older[0],
        fleet=shelf.fleet.name,
        model=shelf.model,
        stable=stable,
        candidate=None,
        rejected=rejected,
        reason=problem,
        issued_at=older[0].issued_at,
    )
    return following.model_copy(update={"serial": serial})


def _stuck(problem: str, why: str) -> ChannelRefused:
    return ChannelRefused(
        f"{problem}, and nothing can go on without it: {why}. Get the file from a backup of the"
        " store, or from a machine with hosts of the fleet by slipway verify --all --heal; hosts"
        " go on serving meanwhile"
    )
