"""Talk to one host over HTTP: what it serves, and what it answers.

Nothing is retried: a request that fails is what a release wants to count.
"""

import json
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway.fleet.inventory import Host

STATUS_TIMEOUT_S = 2.0
"""The admin listener answers from memory; a host that needs longer counts as down."""

INFER_TIMEOUT_S = 30.0
"""Longer than any answer worth promoting, so that a slow model is measured, not cut off."""


class _Said(BaseModel):
    """Part of what a host says; keys of a newer host are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelStatus(_Said):
    """What a host says about one model."""

    stable: str | None = None
    candidate: str | None = None
    percent: int | None = None
    serial: int = 0
    since: str | None = None
    reason: str | None = None
    refused: dict[str, str] = Field(default_factory=dict)
    alarms: list[Any] = Field(default_factory=list)


class HostStatus(_Said):
    """What a host says about itself."""

    name: str
    fleet: str
    ready: bool
    models: dict[str, ModelStatus] = Field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """One answer: either outputs and who made them, or the error in its place."""

    latency_ms: float
    version: str | None = None
    outputs: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    error: str | None = None


class HostClient(Protocol):
    """What a release needs of a host."""

    def status(self, host: Host) -> HostStatus | None:
        """Return what the host says about itself, None when it does not answer."""

    def infer(
        self, host: Host, model: str, body: bytes, *, key: str, version: str | None
    ) -> Answer:
        """Send one V2 request; with `version`, to that version whatever its share."""


class HttpClient:
    """The real client; one connection per host is kept open, as a caller's would be."""

    def __init__(self) -> None:
        # Loopback and internal addresses: a proxy in the environment must not see them.
        self._http = httpx.Client(trust_env=False, follow_redirects=False)
        weakref.finalize(self, self._http.close)  # a release has no one place where it ends

    def status(self, host: Host) -> HostStatus | None:
        """Read `/status` of the admin listener."""
        try:
            response = self._http.get(f"{host.admin_url}/status", timeout=STATUS_TIMEOUT_S)
            response.raise_for_status()
            return HostStatus.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError):
            return None

    def infer(
        self, host: Host, model: str, body: bytes, *, key: str, version: str | None
    ) -> Answer:
        """Post one request and time it to the last byte of the answer."""
        part = f"/versions/{version}" if version else ""
        headers = {"Content-Type": "application/json", "Slipway-Key": key}
        started = time.perf_counter()
        try:
            response = self._http.post(
                f"{host.url}/v2/models/{model}{part}/infer",
                content=body,
                headers=headers,
                timeout=INFER_TIMEOUT_S,
            )
        except httpx.HTTPError as error:
            return Answer(_ms_since(started), error=f"{type(error).__name__}: {error}")
        return read_answer(response.status_code, response.content, _ms_since(started))


def read_answer(status: int, content: bytes, latency_ms: float) -> Answer:
    """Make an answer of a host's response; anything but finite numbers is an error."""
    try:
        document = json.loads(content)
        if status != 200:
            return Answer(latency_ms, error=f"HTTP {status}: {str(document['error'])[:300]}")
        outputs = {
            str(output["name"]): np.asarray(output["data"], dtype=np.float64).reshape(-1)
            for output in document["outputs"]
        }
        version = str(document["model_version"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return Answer(latency_ms, error=f"HTTP {status} with a body that is no V2 response")
    if not all(np.isfinite(values).all() for values in outputs.values()):
        return Answer(latency_ms, error="an answer that is not a finite number")
    return Answer(latency_ms, version, outputs)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000.0
