"""One HTTP request and its response, apart from the connection that carries them."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from slipway.host.answer.call import Cancellable
from slipway.host.request.refusal import RequestRefused, bad_request
from slipway.host.wire.compression import too_large
from slipway.host.wire.http.v2 import render_refusal

READ_HEADERS: Final = frozenset(
    {
        b"authorization", b"content-encoding", b"content-length", b"content-type", b"expect",
        b"host", b"inference-header-content-length", b"origin", b"slipway-key", b"traceparent",
        b"tracestate", b"transfer-encoding",
    }
)  # fmt: skip
"""The headers that mean something here; each may come once."""

ENCODINGS: Final = frozenset({b"identity", b"gzip", b"deflate"})


@dataclass(frozen=True)
class Limits:
    """What one connection may take."""

    body_bytes: int = 16 * 1024 * 1024
    head_bytes: int = 16 * 1024
    """Request line and headers together."""
    headers: int = 100
    chunks: int = 16_384
    """Parts of a chunked body; a client that sends 16 MiB byte by byte has other plans."""
    pipelined: int = 16
    """Requests that may wait for an answer before reading stops."""
    connections: int = 4096
    """Each costs a file descriptor and some 20 KiB."""
    head_s: float = 5
    """For a whole head."""
    body_s: float = 30
    """For a whole body."""
    idle_s: float = 60
    """Between two requests."""
    write_s: float = 30
    """For a client that does not read its answers."""
    linger_s: float = 3
    """For reading away the rest of a refused request."""


@dataclass(slots=True)
class Head:
    """What stands before a body. A connection's next request has mostly the very same one."""

    method: bytes
    path: bytes
    """As it was sent; nothing is decoded."""
    headers: dict[bytes, bytes]
    """Those of READ_HEADERS, their names in lower case."""
    memo: Any = None
    """What the handler made of it, for the next time."""


Body = bytes | bytearray


@dataclass(slots=True)
class Response:
    """One complete response."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    code: str = "ok"
    """The error code, for counting."""
    start: bytes = b""
    """The head up to the value of Content-Length, where it is already written."""


Written = bytes
"""A response of code `ok` whose head and body are written; the connection stays open."""

Respond = Callable[[Response | Written], None]
Handler = Callable[[Head, Body, Respond], Cancellable | None]
"""Calls its last argument exactly once, at once or later; may raise RequestRefused at once."""


def new_request_id() -> str:
    """Name a request whose caller gave it no id."""
    return secrets.token_hex(8)


def refuse(
    refusal: RequestRefused, request_id: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Response:
    """Make the response of a refusal."""
    if refusal.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers = (*headers, (b"Retry-After", b"%d" % refusal.retry_after_s))
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers = (*headers, (b"WWW-Authenticate", b"Bearer"))
    body = render_refusal(refusal, request_id)
    return Response(refusal.status, body, headers=headers, code=refusal.code)


def check_head(version: str, upgrade: bool, headers: Mapping[bytes, bytes], limits: Limits) -> None:
    """Refuse what llhttp lets through and this host does not do, before any body is taken."""
    if version not in ("1.0", "1.1") or (version == "1.1" and b"host" not in headers):
        raise bad_request("use HTTP/1.1 with a Host header")
    if upgrade:
        raise RequestRefused("upgrade_refused", "only HTTP/1.1 is spoken here")
    coding = headers.get(b"transfer-encoding")
    if coding is not None and (version, coding.lower()) != ("1.1", b"chunked"):
        raise bad_request("the only Transfer-Encoding is chunked, in HTTP/1.1")
    if headers.get(b"content-encoding", b"identity").lower() not in ENCODINGS:
        raise RequestRefused("unsupported_media_type", "a body may be plain, gzip or deflate")
    if int(headers.get(b"content-length", b"0")) > limits.body_bytes:
        raise too_large(limits.body_bytes)
    if headers.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise RequestRefused("expectation_failed", "the only expectation is 100-continue")


def render_response(response: Response | Written, keep: bool, head_only: bool) -> bytes:
    """Write a response; nothing in it names the software or the machine."""
    if isinstance(response, bytes):
        if keep:
            return response
        return response.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    start = response.start or b"\r\n".join(
        [
            b"HTTP/1.1 %d %b" % (response.status, HTTPStatus(response.status).phrase.encode()),
            b"Content-Type: " + response.content_type,
            *(b"%b: %b" % header for header in response.headers),
            b"Content-Length: ",
        ]
    )
    body = response.body
    end = b"\r\n\r\n" if keep else b"\r\nConnection: close\r\n\r\n"
    return b"%b%d%b%b" % (start, len(body), end, b"" if head_only else body)
