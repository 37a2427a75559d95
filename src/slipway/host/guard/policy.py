"""Who may ask for what, as data: the scope that each action of the route table takes.

An action without a line here stops the host at start, so a new route cannot be open by
mistake. Exactly two paths are open, compared as they were sent and in full: rules such as
"ends in /ready" have let strangers in elsewhere, and a model may be called `ready` here.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

from slipway.host.guard.caller import ANYBODY, Caller, Guard, OpenGuard
from slipway.host.request.routes import Route

Scope = Literal["infer", "metadata", "metrics", "admin"]
SCOPES: Final = frozenset[str](get_args(Scope))

OPEN: Final = None
"""The policy of an action that anybody may ask for."""

OPEN_PATHS: Final = frozenset({b"/v2/health/live", b"/v2/health/ready"})
"""What a load balancer asks without a secret; they tell one bit each."""

POLICY: Final[Mapping[str, Scope | None]] = {
    "live": OPEN,
    "ready": OPEN,
    "server": "metadata",
    "model": "metadata",
    "model_ready": "metadata",
    "model_config": "metadata",
    "model_stats": "metadata",
    "openapi": "metadata",
    "infer": "infer",
    "metrics": "metrics",
    "status": "admin",
    "admin_metrics": "admin",
    "config": "admin",
    "stats": "admin",
    "reload": "admin",
    "drain": "admin",
}
"""The scope that each action takes, on every transport: gRPC maps its methods to actions."""

LOCAL: Final = Caller("local", SCOPES - {"infer"})
"""Who reaches the admin socket: only this host's user and root can open its folder."""


def check_policy(routes: Iterable[Route]) -> None:
    """Raise ValueError if a route has no policy, or is open and not exactly an open path."""
    problems = []
    for route in routes:
        path = route.pattern.pattern
        if route.action not in POLICY:
            problems.append(f"{path!r}: action {route.action!r} has no line in POLICY")
        elif POLICY[route.action] is OPEN and path not in map(re.escape, OPEN_PATHS):
            problems.append(f"{path!r}: is open and none of OPEN_PATHS")
    if problems:
        raise ValueError("; ".join(problems))


def enter(path: bytes, authorization: bytes | None, guard: Guard) -> Caller:
    """Tell who sends a request; raise RequestRefused (unauthenticated).

    Called before the path is looked up and before the method and the body are judged, so a
    stranger learns nothing from the difference between 404, 405 and 400.
    """
    return ANYBODY if path in OPEN_PATHS else guard.identify(authorization)


def enter_admin(authorization: bytes | None, guard: Guard, over_socket: bool) -> Caller:
    """Tell who asks the admin listener; raise RequestRefused (unauthenticated).

    On loopback every user of the machine can ask, so a key is wanted as soon as the host has
    any; on the socket the file system has asked already.
    """
    if over_socket or isinstance(guard, OpenGuard):
        return LOCAL
    return guard.identify(authorization)


def permit(caller: Caller, action: str, model: str | None = None) -> None:
    """Raise RequestRefused unless the caller may do this; before the model is looked up."""
    if (scope := POLICY[action]) is not OPEN:
        caller.permit(scope, model)
