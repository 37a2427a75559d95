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
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway.fleet.credentials import (
    REFUSALS,
    CallerKeyFile,
    Stranger,
    explain_refusal,
    explain_tls,
    trust,
)
from slipway.fleet.inventory import NO_CREDENTIALS, Credentials, Host
from slipway.fleet.protocol import JSON_LENGTH, all_finite, read_response

STATUS_TIMEOUT_S = 2.0
"""The admin listener answers from memory; a host that needs longer counts as down."""

INFER_TIMEOUT_S = 30.0
"""Longer than any answer worth promoting, so that a slow model is measured, not cut off."""


UNAVAILABLE = 503
"""Stopping, loading, no room: the state of a host at that moment."""


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
    untried: list[str] = Field(default_factory=list)
    """Of those refused: what the host could not try, for reasons of its own."""
    trouble: str | None = None
    """What keeps the host from following its channel."""
    alarms: list[Any] = Field(default_factory=list)


class HostStatus(_Said):
    """What a host says about itself."""

    name: str
    fleet: str
    ready: bool
    models: dict[str, ModelStatus] = Field(default_factory=dict)
    problem: str | None = None
    """Why it does not tell more, or why callers of this project cannot ask it."""


@dataclass(frozen=True)
class HostAnswer:
    """One answer: either outputs and who made them, or the error in its place."""

    latency_ms: float
    version: str | None = None
    outputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """In their own shape and type; BF16 as FP32."""
    error: str | None = None
    ours: bool = False
    """Whether the error is this caller's (its key, its authority): it says nothing about models."""
    unserved: bool = False
    """Whether the host gave no answer, or said that it takes no request now: alone that says
    nothing about models either."""


class HostClient(Protocol):
    """What a release needs of a host."""

    def status(self, host: Host) -> HostStatus | None:
        """Return what the host says about itself, None when it does not answer."""

    def infer(
        self,
        host: Host,
        model: str,
        body: bytes,
        *,
        key: str,
        version: str | None,
        json_bytes: int | None = None,
    ) -> HostAnswer:
        """Send one V2 request; with `version`, to that version whatever its share.

        `json_bytes`: how much of the body is JSON, where binary tensors follow.
        """


class HttpClient:
    """The real client; one connection per host is kept open, as a caller's would be."""

    def __init__(self, credentials: Credentials = NO_CREDENTIALS) -> None:
        """Read the files of the credentials; raise SlipwayError if one cannot be used."""
        self._credentials = credentials
        self._key = CallerKeyFile(credentials.key_file)
        self._reached: set[str] = set()
        # Loopback and internal addresses: a proxy in the environment must not see them.
        self._http = httpx.Client(
            trust_env=False, follow_redirects=False, verify=trust(credentials.ca)
        )
        weakref.finalize(self, self._http.close)  # a release has no one place where it ends

    def status(self, host: Host) -> HostStatus | None:
        """Read `/status` of the admin listener, and see once that callers reach the host, too."""
        try:
            response = self._http.get(
                f"{host.admin_url}/status",
                headers=self._key.header(),
                timeout=STATUS_TIMEOUT_S,
                extensions={"trace": self._key.look},
            )
            if (why := self._refused(response, "the scope admin")) is not None:
                return HostStatus(name=host.name, fleet="", ready=False, problem=why)
            response.raise_for_status()
            status = HostStatus.model_validate_json(response.content)
        except Stranger as stranger:
            return HostStatus(name=host.name, fleet="", ready=False, problem=str(stranger))
        except (httpx.HTTPError, ValidationError):
            return None
        if (why := self._not_reached(host)) is not None:
            return status.model_copy(update={"ready": False, "problem": why})
        return status

    def infer(
        self,
        host: Host,
        model: str,
        body: bytes,
        *,
        key: str,
        version: str | None,
        json_bytes: int | None = None,
    ) -> HostAnswer:
        """Post one request and time it to the last byte of the answer."""
        part = f"/versions/{version}" if version else ""
        headers = {"Content-Type": "application/json", "Slipway-Key": key, **self._key.header()}
        if json_bytes is not None:
            headers |= {"Content-Type": "application/octet-stream", JSON_LENGTH: str(json_bytes)}
        # Over TLS a stranger would have to show a certificate.
        extensions = {} if host.tls else {"trace": self._key.look}
        started = time.perf_counter()
        try:
            response = self._http.post(
                f"{host.url}/v2/models/{model}{part}/infer",
                content=body,
                headers=headers,
                timeout=INFER_TIMEOUT_S,
                extensions=extensions,
            )
        except Stranger as stranger:
            return HostAnswer(_ms_since(started), error=str(stranger), ours=True)
        except httpx.HTTPError as error:
            why = explain_tls(error, self._credentials.ca)
            said = why or f"{type(error).__name__}: {error}"
            ours = why is not None
            return HostAnswer(_ms_since(started), error=said, ours=ours, unserved=not ours)
        latency_ms = _ms_since(started)
        if (why := self._refused(response, f"the scope infer or the model {model}")) is not None:
            return HostAnswer(latency_ms, error=why, ours=True)
        length = response.headers.get(JSON_LENGTH)
        return read_answer(response.status_code, response.content, latency_ms, length)

    def _refused(self, response: httpx.Response, wanted: str) -> str | None:
        """Say why this caller was refused, None when it was not."""
        if (status := response.status_code) not in REFUSALS:
            return None
        said = read_answer(status, response.content, 0.0).error
        return explain_refusal(status, f"({said})", wanted, self._credentials.key_file)

    def _not_reached(self, host: Host) -> str | None:
        """Say what is wrong with a host's TLS; looked at until it was right once."""
        if not host.tls or host.url in self._reached:
            return None
        try:
            self._http.get(f"{host.url}/v2/health/live", timeout=STATUS_TIMEOUT_S)
        except httpx.HTTPError as error:
            return explain_tls(error, self._credentials.ca)
        self._reached.add(host.url)
        return None


def read_answer(
    status: int, content: bytes, latency_ms: float, json_length: str | None = None
) -> HostAnswer:
    """Make an answer of a host's response; a number that is not finite is an error."""
    try:
        if status != 200:
            error = str(json.loads(content)["error"])
            said = f"HTTP {status}: {error[:300]}"
            return HostAnswer(latency_ms, error=said, unserved=status == UNAVAILABLE)
        version, outputs = read_response(content, int(json_length) if json_length else None)
    except (ValueError, KeyError, TypeError, RecursionError):
        return HostAnswer(latency_ms, error=f"HTTP {status} with a body that is no V2 response")
    if not all_finite(outputs):
        return HostAnswer(latency_ms, error="an answer that is not a finite number")
    return HostAnswer(latency_ms, version, outputs)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000.0
