"""A host as a process of its own that serves bundles it is given, and follows nobody."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from slipway.host.guard.keys import ApiKey, add_key, digest, new_secret
from slipway.host.guard.policy import SCOPES
from tests.bundles import Keys, make_keys
from tests.hosts import environment
from tests.support.asking import Answer, ask, sum_metric
from tests.support.pace import limit
from tests.support.ports import free_ports
from tests.support.waiting import wait_until
from tests.tensors import make_tensor_bundle

X = [round(0.01 * n - 0.3, 2) for n in range(64)]
"""One row for the model `mlp`."""

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": X}]}
).encode()


class PinnedHost:
    """One host on free ports; a context that ends it."""

    def __init__(self, folder: Path, bundles: Iterable[Path], keys: Keys, **options: Any) -> None:
        """Take the host's options by name, such as `api_keys`; True is an option by itself."""
        self.port, self.grpc_port, self.admin_port = free_ports(3)
        self.log, self.output = folder / "log", folder / "output"
        self.headers: dict[str, str] = {}
        given = {
            "name": "a",
            "port": self.port,
            "grpc_port": self.grpc_port,
            "admin_port": self.admin_port,
            "trusted_keys": keys.trusted_folder,
            "state": folder / "state",
            **options,
        }
        words = [part for bundle in bundles for part in ("--bundle", str(bundle))]
        for name, value in given.items():
            words += [f"--{name.replace('_', '-')}", *(() if value is True else (str(value),))]
        self.command = [sys.executable, "-m", "slipway.host", *words]
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_s = 0.0
        """From the start to the first time it called itself ready."""

    def __enter__(self) -> "PinnedHost":
        self.log.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with self.log.open("ab") as log, self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=log, env=environment()
            )
        try:
            self.wait(self.is_ready, "ready")
        except BaseException:
            self.kill()
            raise
        self.ready_s = time.monotonic() - began
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if not error[0]:
                assert self.stop() == 0, self.log.read_text()[-4000:]
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to stop and return its exit code."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit(40))

    def reload(self) -> None:
        """Have it read its bundles again."""
        assert self.process
        self.process.send_signal(signal.SIGHUP)

    def is_ready(self) -> bool:
        """Tell whether every bundle serves; asked where neither keys nor TLS are needed."""
        assert self.process
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.status()["ready"])
        except OSError:
            return False

    def status(self) -> dict[str, Any]:
        """Return `/status`."""
        found: dict[str, Any] = self.ask("GET", "/status", port=self.admin_port).json
        return found

    def wait(self, happened: Callable[[], Any], what: str) -> Any:
        """Wait until something is true and return it."""
        return wait_until(happened, lambda: f"{what}:\n{self.log.read_text()[-4000:]}", 30)

    def ask(
        self, method: str, path: str, body: bytes | None = None, port: int | None = None
    ) -> Answer:
        """Send one request on a connection of its own."""
        return ask(port or self.port, method, path, body, headers=self.headers)

    def metric(self, name: str, **labels: str) -> float:
        """Sum the samples of a metric that carry these labels."""
        return sum_metric(self.ask("GET", "/metrics").body.decode(), name, **labels)

    def infer(self, model: str = "mlp", body: bytes = BODY) -> Answer:
        """Ask a model; by default one row of `mlp`."""
        return self.ask("POST", f"/v2/models/{model}/infer", body)


class Bundles:
    """Bundles of a folder, all signed by one builder, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = make_keys(folder / "keys")

    def path(self, kind: str, name: str | None = None, seed: int = 0, **wish: Any) -> Path:
        """Return the folder of a bundle."""
        path = self.folder / f"{name or kind}-{seed}"
        if not path.exists():
            make_tensor_bundle(path, kind, name, self.keys, seed, **wish)
        return path


def make_api_key(path: Path, name: str = "tests") -> str:
    """Add a key that may do everything; return its secret."""
    secret = new_secret()
    add_key(path, ApiKey(id=name, sha256=digest(secret.encode()), scopes=tuple(sorted(SCOPES))))
    return secret
