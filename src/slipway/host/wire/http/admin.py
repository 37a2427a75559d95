"""The admin listener: what this host serves and why, and reading its files again.

A web page can make its reader's browser ask loopback too. So a request that a page of any
site caused (Origin), or that was sent to another name (DNS rebinding), is refused. What changes
something is in the audit log before it is done, and done before it is answered.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from slipway.host.answer.call import Cancellable
from slipway.host.guard.caller import Guard
from slipway.host.guard.policy import enter_admin, permit
from slipway.host.request.refusal import RequestRefused
from slipway.host.request.routes import ADMIN_ROUTES, find_route
from slipway.host.wire.http.exchange import (
    Body,
    Head,
    Respond,
    Response,
    new_request_id,
    refuse,
)
from slipway.host.wire.http.later import answer
from slipway.host.wire.http.rest import refuse_method, show_metrics

log = logging.getLogger(__name__)


Status = Mapping[str, Any]


@dataclass(frozen=True)
class AdminParts:
    """What the admin listener tells and does, at once or after it asked other processes."""

    guard: Guard
    status: Callable[[], Status | Awaitable[Status]]
    reload: Callable[[], Awaitable[None] | None]
    record: Callable[[str, str], asyncio.Future[None]]
    """Writes an event and its caller's id to the audit log; on the disk when it is done."""
    port: int | None
    """None: a unix socket, where any Host header will do."""
    metrics: Callable[[], bytes | Awaitable[bytes]] = bytes
    """Prometheus' text, of this process alone where a supervisor adds them up."""


class Admin:
    """What the admin listener answers."""

    def __init__(self, parts: AdminParts) -> None:
        self._parts = parts
        names = ("127.0.0.1", "localhost", "[::1]")
        self._hosts = frozenset(f"{name}:{parts.port}".encode() for name in names)

    def handle(self, head: Head, body: Body, respond: Respond) -> Cancellable | None:
        """Answer one request."""
        parts, over_socket = self._parts, self._parts.port is None
        named = over_socket or head.headers.get(b"host") in self._hosts
        if b"origin" in head.headers or not named:
            raise RequestRefused("forbidden", "not for pages of a browser, only on loopback")
        caller = enter_admin(head.headers.get(b"authorization"), parts.guard, over_socket)
        route, _ = find_route(ADMIN_ROUTES, head.path)
        permit(caller, route.action)
        if head.method != route.method:
            respond(refuse_method(route.method))
            return None
        if route.action == "status":
            return answer(parts.status(), _show, respond)
        if route.action == "admin_metrics":
            return answer(parts.metrics(), show_metrics, respond)
        recording = parts.record(route.action, caller.id)
        recording.add_done_callback(partial(self._reload, respond))
        return None

    def _reload(self, respond: Respond, recording: asyncio.Future[None]) -> None:
        """Do what the audit log now says."""
        if (error := recording.exception()) is not None:
            log.error("the audit log cannot be written", extra={"reason": str(error)})
            refusal = RequestRefused("audit_failed", "nothing was done: no audit log")
            respond(refuse(refusal, new_request_id()))
            return
        answer(self._reloaded(), _show, respond)

    async def _reloaded(self) -> Status:
        """Reload, and tell what is then."""
        if (reloading := self._parts.reload()) is not None:
            await reloading
        status = self._parts.status()
        return status if isinstance(status, Mapping) else await status


def _show(status: Status) -> Response:
    return Response(200, orjson.dumps(status))
