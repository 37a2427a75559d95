"""The channel: the signed desired state of one model on one fleet, one file per change.

`channels/<fleet>/<model>/<serial>.json` is created once and never changed. The highest
serial counts. A store that was rolled back shows a lower one, and a swapped file the same
serial with another digest: a host that remembers both notices either.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slipway.bundle.format import Document, canonical_json, parse_document
from slipway.bundle.signing import TrustedKeys, open_document, sign_document
from slipway.errors import ChannelRefused
from slipway.store.objects import Store

PAYLOAD_TYPE = "application/vnd.slipway.channel+json"
MAX_ENVELOPE_BYTES = 1_000_000
"""A channel takes some hundred bytes; `rejected` grows by 67 with each version taken back."""

FILE = re.compile(r"([0-9]{12})\.json")
Version = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Candidate(Document):
    """A version that is being rolled out."""

    version: Version
    """The version."""
    mode: Literal["shadow", "canary"]
    """A canary answers its share of callers; a shadow is asked beside stable, never heard."""
    percent: Annotated[int, Field(ge=0, le=100)]
    """Share of callers, by hash."""
    lease_s: Annotated[float, Field(gt=0)]
    """Hosts drop the candidate by themselves when no beat came for this long."""


class Channel(Document):
    """What every host of the fleet shall serve of one model."""

    fleet: str
    """The fleet."""
    model: str
    """The model."""
    serial: Annotated[int, Field(gt=0, lt=10**12)]
    """Grows by one with each change."""
    stable: Version | None
    """The version that serves; None until the first release, or after it was taken back."""
    candidate: Candidate | None
    """The version being rolled out beside it."""
    rejected: list[Version]
    """Versions rolled back for cause: they do not come back with the next run."""
    issued_at: str
    """When it was written, ISO 8601; for people, since order comes from the serial."""
    reason: str
    """Why it was written."""

    @model_validator(mode="after")
    def _roles_do_not_overlap(self) -> Self:
        candidate = self.candidate.version if self.candidate else None
        if candidate is not None and candidate == self.stable:
            raise ValueError("the candidate is the stable version already")
        if back := sorted({self.stable, candidate} & set(self.rejected) - {None}, key=str):
            raise ValueError(f"version {back[0]} was rejected and cannot serve")
        return self


@dataclass(frozen=True)
class SignedChannel:
    """A channel with the envelope it came in."""

    channel: Channel
    """The desired state."""
    digest: str
    """SHA-256 of the envelope, in hex."""
    envelope: bytes
    """The signed bytes: a host keeps them as its memory of what it applied last."""


def next_channel(
    current: Channel | None,
    *,
    fleet: str,
    model: str,
    stable: str | None,
    candidate: Candidate | None,
    rejected: Sequence[str],
    reason: str,
    issued_at: str,
) -> Channel:
    """Return the channel that follows the current one."""
    return Channel(
        fleet=fleet,
        model=model,
        serial=current.serial + 1 if current else 1,
        stable=stable,
        candidate=candidate,
        rejected=list(dict.fromkeys(rejected)),
        issued_at=issued_at,
        reason=reason,
    )


def write_channel(store: Store, channel: Channel, private_key: Path) -> SignedChannel:
    """Sign and publish a channel; of two writers of one serial, one gets AlreadyExists."""
    document = canonical_json(channel.model_dump())
    envelope = sign_document(document, PAYLOAD_TYPE, private_key)
    store.create(serial_path(channel.fleet, channel.model, channel.serial), envelope)
    return _signed(channel, envelope)


def serials(store: Store, fleet: str, model: str) -> list[int]:
    """List the serials that were written, damaged ones too."""
    names = store.names(f"channels/{fleet}/{model}")
    return [int(found[1]) for name in names if (found := FILE.fullmatch(name))]


def read_channel(
    store: Store, fleet: str, model: str, trusted: TrustedKeys
) -> SignedChannel | None:
    """Return the channel with the highest serial, or None where there never was one."""
    there = serials(store, fleet, model)
    return read_serial(store, fleet, model, serial=max(there), trusted=trusted) if there else None


def read_serial(
    store: Store, fleet: str, model: str, *, serial: int, trusted: TrustedKeys
) -> SignedChannel:
    """Return one serial of a channel; raise ChannelRefused, with its file, for what is none."""
    path = serial_path(fleet, model, serial)
    try:
        signed = open_channel(store.read(path, MAX_ENVELOPE_BYTES), trusted, fleet, model)
    except FileNotFoundError:
        raise ChannelRefused(f"{path} is missing") from None
    except ChannelRefused as refusal:
        raise ChannelRefused(f"{path}: {refusal}") from None
    if signed.channel.serial != serial:
        raise ChannelRefused(f"{path}: holds serial {signed.channel.serial}")
    return signed


def open_channel(envelope: bytes, trusted: TrustedKeys, fleet: str, model: str) -> SignedChannel:
    """Read a signed channel, or refuse one that is forged, or meant for somewhere else."""
    document = open_document(envelope, PAYLOAD_TYPE, trusted.keys("release"))
    try:
        channel = parse_document(Channel, document)
    except ValueError as error:
        raise ChannelRefused(f"channel of {model} on {fleet}: {error}") from None
    if (channel.fleet, channel.model) != (fleet, model):
        raise ChannelRefused(
            f"channel of {model} on {fleet}: is that of {channel.model} on {channel.fleet}"
        )
    return _signed(channel, envelope)


def models(store: Store, fleet: str) -> list[str]:
    """List the models that have a channel on a fleet."""
    return store.names(f"channels/{fleet}")


def _signed(channel: Channel, envelope: bytes) -> SignedChannel:
    return SignedChannel(channel, hashlib.sha256(envelope).hexdigest(), envelope)


def serial_path(fleet: str, model: str, serial: int) -> str:
    """Name the file of a serial in the store."""
    return f"channels/{fleet}/{model}/{serial:012d}.json"
