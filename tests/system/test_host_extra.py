"""`pip install 'slipway-ml[host]'` into a clean environment: light, and it serves."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.bundles import make_bundle, make_keys
from tests.project import REPOSITORY
from tests.support.pace import limit
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # a clean environment from the package index

HEAVY = ("torch", "prefect", "dvc", "great_expectations", "pandas", "onnx", "duckdb", "sklearn")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the host alone, as a user would, at the locked versions."""
    folder = tmp_path_factory.mktemp("host") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    found = folder / "bin/python"
    install = [found, "-m", "pip", "install", "--quiet", "--constraint", "requirements.lock"]
    done = subprocess.run(
        [*map(str, install), f"{REPOSITORY}[host]"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=limit(300),
    )  # fmt: skip
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip(f"needs a package index: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return found


@pytest.mark.parametrize("name", HEAVY)
def test_nothing_heavy_came_along(python: Path, name: str):
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
    assert subprocess.run([python, "-c", code]).returncode == 0


@pytest.fixture
def live(python: Path, tmp_path: Path) -> Iterator[str]:
    port, admin_port = free_ports(2)
    keys = make_keys(tmp_path / "keys")
    slipway = [str(python.parent / "slipway"), "host", "--name", "a", "--fleet", "local"]
    options = {
        "--port": port,
        "--admin-port": admin_port,
        "--store": tmp_path / "store",
        "--trusted-keys": keys.trusted_folder,
        "--state": tmp_path / "state",
    }
    arguments = [str(x) for pair in options.items() for x in pair]
    with subprocess.Popen([*slipway, *arguments], stderr=subprocess.DEVNULL) as process:
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        assert process.wait(limit(30)) == 0


def is_live(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/live").json()["live"] is True
    except httpx.TransportError:
        return False


def test_it_starts_and_speaks_the_protocol(live: str):
    wait_until(lambda: is_live(live), "it listens")
    assert httpx.get(f"{live}/v2/health/ready").status_code == 503
    assert httpx.get(f"{live}/v2").json()["name"] == "slipway"


def test_it_verifies_a_bundle(python: Path, tmp_path: Path):
    keys = make_keys(tmp_path / "keys")
    version = make_bundle(tmp_path / "bundle", keys=keys)
    command = [python.parent / "slipway", "verify", tmp_path / "bundle"]
    command += ["--trusted-keys", keys.trusted_folder]
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert version[:12] in done.stdout
