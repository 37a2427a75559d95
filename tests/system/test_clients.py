"""Clients that nobody here wrote against real hosts: tritonclient, KServe's, grpc's own."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests.certificates import make_certificate
from tests.clients import MISSING, find_checks, find_python, run_checks
from tests.pinned_host import Bundles, PinnedHost, make_api_key

SCRIPTS = {"triton_http.py": "triton", "triton_grpc.py": "triton", "kserve_calls.py": "kserve"}
CHECKS = [(script, check) for script in SCRIPTS for check in find_checks(script)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Three hosts: one open, one with keys, one with TLS."""
    folder = tmp_path_factory.mktemp("hosts")
    bundles = Bundles(folder)
    paths = [bundles.path(kind) for kind in ("types", "bf16", "mlp")]
    secret = make_api_key(folder / "keys.json")
    authority, key = make_certificate(folder)
    with ExitStack() as stack:

        def start(name: str, count: int, headers: dict[str, str], **options: Any) -> PinnedHost:
            host = PinnedHost(folder / name, paths[-count:], bundles.keys, **options)
            host.headers = headers
            return stack.enter_context(host)

        plain = start("plain", 3, {})
        bearer = {"Authorization": f"Bearer {secret}"}
        keyed = start("keyed", 1, bearer, api_keys=folder / "keys.json")
        tls = start("tls", 1, {}, tls_cert=authority, tls_key=key)
        models = plain.status()["models"]
        yield {
            "http": f"127.0.0.1:{plain.port}",
            "grpc": f"127.0.0.1:{plain.grpc_port}",
            "keyed_http": f"127.0.0.1:{keyed.port}",
            "keyed_grpc": f"127.0.0.1:{keyed.grpc_port}",
            "tls_http": f"localhost:{tls.port}",
            "tls_grpc": f"localhost:{tls.grpc_port}",
            "secret": secret,
            "authority": str(authority),
            "versions": {model: models[model]["stable"] for model in models},
        }


@pytest.fixture(scope="module")
def outcomes(site: dict[str, Any]) -> dict[str, dict[str, str]]:
    """What became of each check; a script is run once for all of its checks."""
    found = {}
    for script, name in SCRIPTS.items():
        python = find_python(name)
        found[script] = run_checks(python, script, site) if python else {}
    return found


@pytest.mark.parametrize(("script", "check"), CHECKS)
def test_a_client_works_unmodified(
    outcomes: dict[str, dict[str, str]], script: str, check: str
) -> None:
    if not outcomes[script]:
        pytest.skip(MISSING)
    if outcomes[script][check]:
        pytest.fail(outcomes[script][check], pytrace=False)


@pytest.fixture
def channel(site: dict[str, Any]) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(site["grpc"]) as channel:
        yield channel


def test_the_health_client_is_answered(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", "inference.GRPCInferenceService", "mlp"):
        asked = health_pb2.HealthCheckRequest(service=service)
        assert stub.Check(asked).status == health_pb2.HealthCheckResponse.SERVING


def test_a_call_is_made_of_nothing_but_what_reflection_tells(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    name = "inference.GRPCInferenceService"
    assert name in database.get_services()
    file = database.FindFileContainingSymbol(name)
    (service,) = (each for each in file.service if each.name == "GRPCInferenceService")
    assert {"ModelInfer", "ModelReady", "ServerLive"} <= {each.name for each in service.method}
