"""Nobody gets past the gate without a key: every route by every method, from the route table."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from slipway.host.guard.gate import AccessGate, Sources
from slipway.host.guard.keys import ApiKey, add_key, digest
from slipway.host.guard.policy import POLICY, check_policy
from slipway.host.request.routes import ADMIN_ROUTES, DATA_ROUTES
from tests.paper_host import VERSION, PaperHost, make_contract, request

METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
MODELS = ("m", "ready", "live", "health", "nobody-has-this")
OPEN = ("/v2/health/live", "/v2/health/ready")
BODY = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'


def paths() -> list[str]:
    """Return every path of the table, for models of every name that could fool a guard."""
    found = []
    for route, model in itertools.product((*DATA_ROUTES, *ADMIN_ROUTES), MODELS):
        found.append(route.template.replace("{model}", model).replace("{version}", VERSION))
    return sorted({*found, "/v2/"})


NO_PATHS = (
    "/", "*", "/nothing", "/v2/health/live/", "/v2/health/ready/", "//v2/health/live",
    "/v2/health/../models/m", "/v2/health/live/../../models/m", "/v2/models/x%2fready",
    "/v2/health/live?x", "/v2/health/ready#", "/V2/health/live", "/v2/health%2flive",
    "/v2/models/m/infer?/v2/health/live", "/v2/health/LIVE", "/health", "/ready", "/live",
)  # fmt: skip


KEYS: dict[str, Any] = {
    "all": {"scopes": ("infer", "metadata", "metrics")},
    "infer": {"scopes": ("infer",), "models": ("ready",)},
    "metadata": {"scopes": ("metadata",)},
}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> AccessGate:
    """Know three keys."""
    path = tmp_path_factory.mktemp("gate") / "keys.json"
    for name, fields in KEYS.items():
        add_key(path, ApiKey(id=name, sha256=digest(name.encode()), **fields))
    return AccessGate(Sources(api_keys=path))


@pytest.fixture(scope="module")
def host(gate: AccessGate) -> Iterator[PaperHost]:
    """Serve models of misleading names behind the gate."""
    host = PaperHost(*(make_contract(name, x="FP32") for name in MODELS[:-1]), guard=gate)
    yield host
    host.close()


def ask(host: PaperHost, method: str, path: str, authorization: str | None = None) -> Any:
    headers = [] if authorization is None else [f"Authorization: {authorization}"]
    raw, _ = host.talk(request(BODY, path=path, headers=headers, method=method))
    return int(raw.split()[1]), raw


@pytest.mark.parametrize("authorization", [None, "Bearer nobody", "Basic YTph", "Bearer", "all"])
def test_every_path_by_every_method_is_refused_without_a_key_but_the_two_that_are_open(
    host: PaperHost, authorization: str | None
) -> None:
    asked = set(itertools.product((*paths(), *NO_PATHS), METHODS))
    assert len(asked) > 400
    for path, method in sorted(asked):
        status, raw = ask(host, method, path, authorization)
        if path in OPEN:
            assert (status, path, method) == (200 if method == "GET" else 405, path, method)
        else:
            assert (status, path, method) == (401, path, method)
            assert b"WWW-Authenticate: Bearer\r\n" in raw
            assert method == "HEAD" or b'"unauthenticated"' in raw


def test_a_key_opens_what_its_scopes_say_and_nothing_else(host: PaperHost) -> None:
    for route, model, key in itertools.product(
        DATA_ROUTES, MODELS[:-1], ("all", "infer", "metadata")
    ):
        path = route.template.replace("{model}", model).replace("{version}", VERSION)
        scope = POLICY[route.action]
        named = "{model}" in route.template
        may = scope is None or key in ("all", scope)
        may = may and not (key == "infer" and named and model != "ready")
        for _ in range(2):  # the second time by what was remembered of the first
            status, _ = ask(host, route.method.decode(), path, f"Bearer {key}")
            assert (status, path, key) == (200 if may else 403, path, key)


def test_every_route_has_a_policy_and_every_open_one_is_health() -> None:
    check_policy((*DATA_ROUTES, *ADMIN_ROUTES))
    free = {route.template for route in DATA_ROUTES if POLICY[route.action] is None}
    assert free == set(OPEN)
    assert not any(POLICY[route.action] is None for route in ADMIN_ROUTES)


def test_without_a_gate_everything_but_administration_is_open() -> None:
    with closing(PaperHost(*(make_contract(name, x="FP32") for name in MODELS[:-1]))) as host:
        for route, model in itertools.product(DATA_ROUTES, MODELS[:-1]):
            path = route.template.replace("{model}", model).replace("{version}", VERSION)
            assert ask(host, route.method.decode(), path)[0] == 200
        templates = {route.template for route in DATA_ROUTES}
        for route in (one for one in ADMIN_ROUTES if one.template not in templates):
            assert ask(host, route.method.decode(), route.template)[0] == 404


def test_a_refusal_without_a_key_tells_nothing_of_what_is_there(host: PaperHost) -> None:
    answers = {
        ask(host, method, path)[1]
        for path in ("/v2/models/m/infer", "/v2/models/nobody-has-this/infer", "/nothing", "/v2")
        for method in ("GET", "POST", "DELETE")
    }
    assert len(answers) == 1
