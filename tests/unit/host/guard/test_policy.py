import dataclasses
import re
import time
from collections.abc import Callable

import pytest

from slipway.host.guard.caller import Caller, OpenGuard
from slipway.host.guard.gate import AccessGate, Sources
from slipway.host.guard.keys import ApiKey, add_key, digest
from slipway.host.guard.policy import (
    LOCAL,
    OPEN,
    OPEN_PATHS,
    POLICY,
    check_policy,
    enter,
    enter_admin,
    permit,
)
from slipway.host.request.refusal import RequestRefused
from slipway.host.request.routes import ADMIN_ROUTES, DATA_ROUTES, Route, find_route

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"BREW")
TRICKY = ("flights", "ready", "live", "health", "v2", "metrics", "x.ready", "x-live")


def paths(route: Route) -> list[bytes]:
    """Write a route's paths out, with names that have fooled rules elsewhere."""
    found = {
        route.template.replace("{model}", name).replace("{version}", name).encode() + end
        for name in TRICKY
        for end in (b"", b"/")
    }
    return sorted(path for path in found if route.pattern.fullmatch(path))


def route(action: str, pattern: bytes) -> Route:
    return dataclasses.replace(DATA_ROUTES[0], action=action, pattern=re.compile(pattern))


def verdict(ask: Callable[..., Caller | None], *args: object) -> str:
    try:
        ask(*args)
    except RequestRefused as refusal:
        return f"{refusal.status} {refusal.code}"
    return "ok"


def every_request():
    for asked in (*DATA_ROUTES, *ADMIN_ROUTES):
        for path in paths(asked):
            for method in METHODS:
                yield asked, method, path


@pytest.fixture
def gate(tmp_path) -> AccessGate:
    path = tmp_path / "api-keys.json"
    for name, scopes in (
        ("all", ("infer", "metadata", "metrics", "admin")),
        ("infer", ("infer",)),
        ("metadata", ("metadata",)),
        ("metrics", ("metrics",)),
        ("admin", ("admin",)),
    ):
        add_key(path, ApiKey(id=name, sha256=digest(name.encode()), scopes=scopes))
    return AccessGate(Sources(api_keys=path))


def test_every_route_has_a_policy():
    check_policy(DATA_ROUTES)
    check_policy(ADMIN_ROUTES)


def test_a_route_without_a_policy_stops_the_host():
    with pytest.raises(ValueError, match="action 'secrets' has no line in POLICY"):
        check_policy([*DATA_ROUTES, route("secrets", rb"/v2/secrets")])


@pytest.mark.parametrize(
    "path", [rb"/v2/health/ready/?", rb"/v2/health/.*", rb".*/ready", rb"/v2/ready", rb"/health"]
)
def test_a_route_is_not_open_unless_it_is_exactly_an_open_path(path):
    with pytest.raises(ValueError, match="is open and none of OPEN_PATHS"):
        check_policy([route("ready", path)])


def test_two_actions_are_open_and_nothing_of_the_admin_port_is():
    assert {action for action, scope in POLICY.items() if scope is OPEN} == {"live", "ready"}
    assert {POLICY[route.action] for route in ADMIN_ROUTES} == {"admin"}


def test_every_route_with_every_method_is_401_without_a_token_but_the_two_health_paths(gate):
    verdicts = {path: verdict(enter, path, None, gate) for _, _, path in every_request()}
    opened = {path for path, told in verdicts.items() if told == "ok"}
    assert opened == OPEN_PATHS == {b"/v2/health/live", b"/v2/health/ready"}
    assert {verdicts[path] for path in verdicts.keys() - opened} == {"401 unauthenticated"}
    assert len(verdicts) > 80


@pytest.mark.parametrize(
    "path",
    [
        b"/v2/models/ready/ready", b"/v2/models/health/ready", b"/v2/models/x%2fready",
        b"/v2/health/ready/", b"//v2/health/ready", b"/v2/health/ready?x", b"/v2/health/READY",
        b"/v2/health/../health/ready", b"/v2/health/ready#", b"/v2/health/%72eady", b"/v2/health",
        b"/health/ready", b"/status", b"/", b"", b"*", b"http://x/v2/health/ready", b"/ready",
        b"/v2/health/ready\0", b"/v2/health/live;x", b"/v2/systemsharedmemory/x/status",
    ],
)  # fmt: skip
def test_no_other_spelling_of_a_path_is_open(gate, path):
    with pytest.raises(RequestRefused) as refusal:
        enter(path, None, gate)
    assert refusal.value.code == "unauthenticated"


def test_a_model_that_is_named_ready_is_no_health_path():
    found, names = find_route(DATA_ROUTES, b"/v2/models/ready/ready")
    assert (found.action, names["model"]) == ("model_ready", "ready")


@pytest.mark.parametrize("scope", ["infer", "metadata", "metrics", "admin"])
def test_a_key_does_what_its_scope_says_and_nothing_else(gate, scope):
    for asked, _, path in every_request():
        caller = enter(path, b"Bearer " + scope.encode(), gate)
        allowed = POLICY[asked.action] in (OPEN, scope)
        told = verdict(permit, caller, asked.action)
        assert told == ("ok" if allowed else "403 forbidden")


def test_a_key_of_one_model_is_told_the_same_of_a_model_that_is_there_and_one_that_is_not():
    caller = Caller("shop", frozenset({"infer"}), frozenset({"flights"}))
    permit(caller, "infer", "flights")
    for model in ("weather", "no-such-model"):
        with pytest.raises(RequestRefused, match="does not allow that"):
            permit(caller, "infer", model)


def test_the_admin_port_asks_for_a_key_as_soon_as_there_are_any(gate):
    with pytest.raises(RequestRefused):
        enter_admin(None, gate, over_socket=False)
    permit(enter_admin(b"Bearer admin", gate, over_socket=False), "status")
    with pytest.raises(RequestRefused):
        permit(enter_admin(b"Bearer infer", gate, over_socket=False), "status")


def test_whoever_reaches_the_admin_socket_or_a_host_without_keys_may_ask_about_it(gate):
    assert enter_admin(None, gate, over_socket=True) == LOCAL
    assert enter_admin(None, OpenGuard(), over_socket=False) == LOCAL
    for action in ("status", "config", "stats", "reload", "drain"):
        permit(LOCAL, action)


def test_whoever_is_local_may_run_no_model():
    with pytest.raises(RequestRefused) as refused:
        enter_admin(None, OpenGuard(), over_socket=True).permit("infer", "flights")
    assert refused.value.code == "forbidden"


def test_a_caller_that_is_kept_on_a_connection_ends_at_its_time():
    """Faces identify once and ask again for each request."""
    Caller("shop", expires=time.time() + 60).permit("infer")
    with pytest.raises(RequestRefused) as refused:
        Caller("shop", expires=time.time() - 1).permit("infer")
    assert refused.value.code == "unauthenticated"
