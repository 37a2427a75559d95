"""The admin port: what this host serves and why. Read-only, on loopback alone.

A web page can make its reader's browser ask loopback too. So a request that a page of any
site caused (Origin), or that was sent to another name (DNS rebinding), is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from slipway.host.refusal import RequestRefused
from slipway.host.wire.exchange import Request, Respond, Response
from slipway.host.wire.rest import refuse_method
from slipway.host.wire.routes import ADMIN_ROUTES, find_route


class Admin:
    """What the admin port answers."""

    def __init__(self, port: int, status: Callable[[], Mapping[str, Any]]) -> None:
        self._status = status
        names = ("127.0.0.1", "localhost", "[::1]")
        self._hosts = frozenset(f"{name}:{port}".encode() for name in names)

    def handle(self, request: Request, respond: Respond) -> None:
        """Answer one request."""
        if b"origin" in request.headers or request.headers.get(b"host") not in self._hosts:
            raise RequestRefused("forbidden", "not for pages of a browser, only on loopback")
        route, _ = find_route(ADMIN_ROUTES, request.path)
        if request.method != route.method:
            respond(refuse_method(route.method))
            return
        respond(Response(200, orjson.dumps(self._status())))
