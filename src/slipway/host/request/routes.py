"""The exact table of what can be asked for over HTTP.

A path is matched as it stands: nothing is decoded, joined or made shorter, so there is no
second spelling of a path and `%2e%2e`, `//` or a query are simply not found.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from slipway.host.request.refusal import RequestRefused

NAME: Final = rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"


@dataclass(frozen=True)
class Route:
    """One thing that can be asked for."""

    action: str
    method: bytes
    pattern: re.Pattern[bytes]
    template: str
    """The path as people write it."""


def _route(action: str, method: bytes, path: bytes) -> Route:
    template = path.decode().removesuffix("/?").replace("\\", "")
    for name in (b"model", b"version"):
        path = path.replace(b"{%b}" % name, b"(?P<%b>%b)" % (name, NAME))
    return Route(action, method, re.compile(path), template)


DATA_ROUTES: Final = (
    _route("server", b"GET", rb"/v2/?"),
    _route("live", b"GET", rb"/v2/health/live"),
    _route("ready", b"GET", rb"/v2/health/ready"),
    _route("infer", b"POST", rb"/v2/models/{model}/infer"),
    _route("infer", b"POST", rb"/v2/models/{model}/versions/{version}/infer"),
    _route("model", b"GET", rb"/v2/models/{model}"),
    _route("model", b"GET", rb"/v2/models/{model}/versions/{version}"),
    _route("model_ready", b"GET", rb"/v2/models/{model}/ready"),
    _route("model_ready", b"GET", rb"/v2/models/{model}/versions/{version}/ready"),
    _route("model_config", b"GET", rb"/v2/models/{model}/config"),
    _route("model_config", b"GET", rb"/v2/models/{model}/versions/{version}/config"),
    _route("model_stats", b"GET", rb"/v2/models/{model}/stats"),
    _route("model_stats", b"GET", rb"/v2/models/{model}/versions/{version}/stats"),
    _route("openapi", b"GET", rb"/openapi\.json"),
    _route("metrics", b"GET", rb"/metrics"),
)

ADMIN_ROUTES: Final = (
    _route("status", b"GET", rb"/status"),
    _route("reload", b"POST", rb"/reload"),
    _route("admin_metrics", b"GET", rb"/metrics"),
)


def find_route(routes: tuple[Route, ...], path: bytes) -> tuple[Route, Mapping[str, str]]:
    """Return the route and the names in its path; raise RequestRefused if there is none."""
    for route in routes:
        if match := route.pattern.fullmatch(path):
            return route, {name: text.decode() for name, text in match.groupdict().items() if text}
    raise RequestRefused("not_found", "there is nothing at this path")
