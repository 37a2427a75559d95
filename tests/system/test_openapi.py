"""The host's OpenAPI description, judged by schemathesis: what it says is what the host does."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pinned_host import Bundles, PinnedHost
from tests.support.pace import limit

PROTOCOL = {
    ("GET", "/v2"): "server metadata",
    ("GET", "/v2/health/live"): "server live",
    ("GET", "/v2/health/ready"): "server ready",
    ("GET", "/v2/models/{}"): "model metadata",
    ("GET", "/v2/models/{}/versions/{}"): "model metadata",
    ("GET", "/v2/models/{}/ready"): "model ready",
    ("GET", "/v2/models/{}/versions/{}/ready"): "model ready",
    ("POST", "/v2/models/{}/infer"): "inference",
    ("POST", "/v2/models/{}/versions/{}/infer"): "inference",
}
"""The REST operations of the Open Inference Protocol, as its specification lists them."""

TRITON = {
    ("GET", "/v2/models/{}/config"): "model configuration extension",
    ("GET", "/v2/models/{}/versions/{}/config"): "model configuration extension",
    ("GET", "/v2/models/{}/stats"): "statistics extension",
    ("GET", "/v2/models/{}/versions/{}/stats"): "statistics extension",
}

OWN = {("GET", "/openapi.json"): "the description", ("GET", "/metrics"): "Prometheus metrics"}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PinnedHost]:
    folder = tmp_path_factory.mktemp("host")
    bundles = Bundles(folder)
    with PinnedHost(folder / "a", [bundles.path("mlp")], bundles.keys) as started:
        yield started


def describe(host: PinnedHost) -> dict[str, Any]:
    found: dict[str, Any] = host.ask("GET", "/openapi.json").json
    return found


def test_the_description_covers_the_protocol_and_nothing_is_missing_in_it(host: PinnedHost) -> None:
    paths = describe(host)["paths"]
    described = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path))
        for path, operations in paths.items()
        for method in operations
    }
    assert described == set(PROTOCOL) | set(TRITON) | set(OWN)


def test_what_is_described_is_there(host: PinnedHost) -> None:
    version = host.status()["models"]["mlp"]["stable"]
    for path, operations in describe(host)["paths"].items():
        where = path.format(model="mlp", version=version)
        if "get" in operations:
            assert host.ask("GET", where).status == 200, path
        else:
            assert host.ask("POST", where, b"{}").status == 400, path


SETTINGS = """
color = false
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404", "503"]  # the schema is the protocol's, not a model's
"""

NAMES = """
[parameters]
model = "mlp"
version = "{version}"
"""


@pytest.mark.slow
@pytest.mark.parametrize("names", ["made up", "real"])
def test_schemathesis_finds_nothing(host: PinnedHost, tmp_path: Path, names: str) -> None:
    version = host.status()["models"]["mlp"]["stable"]
    settings = SETTINGS + (NAMES.format(version=version) if names == "real" else "")
    (tmp_path / "schemathesis.toml").write_text(settings)
    program = Path(sys.executable).with_name("schemathesis")
    url = f"http://127.0.0.1:{host.port}/openapi.json"
    done = subprocess.run(
        [program, "run", url, "--checks", "all", "--max-examples", "15", "--seed", "1",
         "--request-timeout", str(limit(5))],
        cwd=tmp_path, capture_output=True, text=True, timeout=limit(120), check=False,
        env={**os.environ, "NO_PROXY": "*"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found, done.stdout
    assert found[1] == found[2]
    assert int(found[1]) > 300
    assert "Traceback" not in host.log.read_text()
