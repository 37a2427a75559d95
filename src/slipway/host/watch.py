"""Look at the store: which channels and beats are there now."""

from dataclasses import dataclass, field

from slipway.bundle.signing import TrustedKeys
from slipway.errors import ChannelRefused
from slipway.host.memory import MODEL
from slipway.store.channel import SignedChannel, models, read_channel
from slipway.store.lease import read_beat
from slipway.store.objects import Store


@dataclass
class Sight:
    """What one look showed of one model."""

    channel: SignedChannel | None = None
    beat: tuple[int, int] | None = None
    """Serial and number of the last beat."""
    alarms: list[str] = field(default_factory=list)
    """What was there and cannot be trusted."""


def look(store: Store, fleet: str, trusted: TrustedKeys, known: set[str]) -> dict[str, Sight]:
    """Read the channel and the beat of every model, listed in the store or known before."""
    listed = {model for model in models(store, fleet) if MODEL.fullmatch(model)}
    return {model: _look_at(store, fleet, model, trusted) for model in sorted(listed | known)}


def _look_at(store: Store, fleet: str, model: str, trusted: TrustedKeys) -> Sight:
    sight = Sight()
    try:
        sight.channel = read_channel(store, fleet, model, trusted)
    except ChannelRefused as refusal:
        sight.alarms.append(f"channel refused: {refusal}")
    try:
        if sight.channel and sight.channel.channel.candidate:
            beat = read_beat(store, fleet, model, trusted)
            sight.beat = (beat.serial, beat.beat) if beat else None
    except ChannelRefused as refusal:
        sight.alarms.append(f"lease refused: {refusal}")
    return sight
