"""Look at the store: which channels and beats are there now."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from slipway.bundle.signing import TrustedKeys
from slipway.errors import ChannelRefused
from slipway.host.follow.memory import MODEL
from slipway.store.channel import SignedChannel, models, read_channel
from slipway.store.lease import read_beat
from slipway.store.objects import Store

T = TypeVar("T")


@dataclass
class Sight:
    """What one look showed of one model."""

    channel: SignedChannel | None = None
    beat: tuple[int, int] | None = None
    """Serial and number of the last beat."""
    alarms: list[str] = field(default_factory=list)
    """What was there and cannot be trusted."""
    unreadable: str | None = None
    """Why the look failed."""

    @property
    def empty(self) -> bool:
        """Whether there was nothing to be seen."""
        return self.channel is None and not self.alarms


def look(store: Store, fleet: str, trusted: TrustedKeys, known: set[str]) -> dict[str, Sight]:
    """Read the channel and the beat of every model, listed in the store or known before.

    What cannot be read of one model says nothing about the others.
    """
    listed = {model for model in models(store, fleet) if MODEL.fullmatch(model)}
    return {model: _look_at(store, fleet, model, trusted) for model in sorted(listed | known)}


def _look_at(store: Store, fleet: str, model: str, trusted: TrustedKeys) -> Sight:
    sight = Sight()
    try:
        sight.channel = _read(sight, "channel", lambda: read_channel(store, fleet, model, trusted))
        if sight.channel and sight.channel.channel.candidate:
            beat = _read(sight, "lease", lambda: read_beat(store, fleet, model, trusted))
            sight.beat = (beat.serial, beat.beat) if beat else None
    except Exception as error:  # whatever the driver of a file system raises
        sight.unreadable = str(error)
    return sight


def _read(sight: Sight, what: str, read: Callable[[], T | None]) -> T | None:
    """Return what was read, or note that it is there and cannot be trusted."""
    try:
        return read()
    except ChannelRefused as refusal:
        sight.alarms.append(f"{what} refused: {refusal}")
        return None
