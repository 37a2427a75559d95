"""A host that others could reach without being asked who they are does not start."""

import subprocess
import sys
from pathlib import Path

from slipway.host.guard.keys import ApiKey, add_key, digest
from tests.support.pace import limit

START = (sys.executable, "-I", "-m", "slipway.host", "--name", "a", "--fleet", "local")


def start(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    given = (
        *("--port", "1", "--admin-port", "2", "--store", str(folder / "store")),
        *("--trusted-keys", str(folder / "keys"), "--state", str(folder / "state"), *options),
    )
    return subprocess.run([*START, *given], capture_output=True, text=True, timeout=limit(60))


def test_a_public_address_without_keys_and_tls_is_refused_at_start(tmp_path):
    done = start(tmp_path, "--address", "0.0.0.0")
    assert done.returncode == 2
    assert "give --api-keys or --jwks, or listen on 127.0.0.1" in done.stderr
    assert "give --tls-cert and --tls-key, or --behind-proxy" in done.stderr
    assert not (tmp_path / "state").exists()


def test_keys_that_others_could_read_are_refused_at_start(tmp_path):
    keys = tmp_path / "api-keys.json"
    add_key(keys, ApiKey(id="a", sha256=digest(b"x"), scopes=("infer",)))
    keys.chmod(0o644)
    done = start(tmp_path, "--api-keys", str(keys))
    assert done.returncode == 1
    assert "its mode is 0644, at most 0640 is accepted" in done.stderr
