"""The lease of a candidate: a signed number that grows while its release is watched.

`leases/<fleet>/<model>.json` is replaced with each beat. It carries no time: a host that
sees a larger number renews the lease on its own monotonic clock, so wrong clocks and
replayed beats keep no candidate alive.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from slipway.bundle.format import Document, canonical_json, parse_document
from slipway.bundle.signing import TrustedKeys, open_document, sign_document
from slipway.errors import ChannelRefused
from slipway.store.objects import Store

PAYLOAD_TYPE = "application/vnd.slipway.lease+json"
MAX_ENVELOPE_BYTES = 10_000


class Beat(Document):
    """A sign of life from the release that watches a candidate."""

    fleet: str
    """The fleet."""
    model: str
    """The model."""
    serial: Annotated[int, Field(gt=0)]
    """The channel whose candidate is kept alive."""
    beat: Annotated[int, Field(ge=0)]
    """Grows by one each time."""


def beat(store: Store, fleet: str, model: str, serial: int, number: int, private_key: Path) -> Beat:
    """Renew the lease of a channel's candidate."""
    value = Beat(fleet=fleet, model=model, serial=serial, beat=number)
    envelope = sign_document(canonical_json(value.model_dump()), PAYLOAD_TYPE, private_key)
    store.replace(_path(fleet, model), envelope)
    return value


def read_beat(store: Store, fleet: str, model: str, trusted: TrustedKeys) -> Beat | None:
    """Return the last beat, or None where there never was one; refuse a forged one."""
    path = _path(fleet, model)
    try:
        envelope = store.read(path, MAX_ENVELOPE_BYTES)
    except FileNotFoundError:
        return None
    document = open_document(envelope, PAYLOAD_TYPE, trusted.keys("release"))
    try:
        value = parse_document(Beat, document)
    except ValueError as error:
        raise ChannelRefused(f"{path}: {error}") from None
    if (value.fleet, value.model) != (fleet, model):
        raise ChannelRefused(f"{path}: is the lease of {value.model} on {value.fleet}")
    return value


def _path(fleet: str, model: str) -> str:
    return f"leases/{fleet}/{model}.json"
