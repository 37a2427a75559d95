"""A fleet to test hosts in: a file store, keys, bundles, and host processes on real sockets."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from slipway.bundle.session import open_session
from slipway.store.bundles import upload_bundle
from slipway.store.channel import Candidate, Channel, next_channel, write_channel
from slipway.store.lease import beat
from slipway.store.objects import Store
from tests.bundles import CPU, Keys, make_bundle, make_keys, make_model
from tests.support.asking import Answer, ask, sum_metric
from tests.support.pace import limit
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

FLEET = "local"


@dataclass
class Site:
    """A store with signed bundles and channels."""

    folder: Path
    model: str = "flights"
    keys: Keys = field(init=False)
    store: Store = field(init=False)
    channel: Channel | None = None
    beats: int = 0

    def __post_init__(self) -> None:
        self.keys = make_keys(self.folder / "keys")
        (self.folder / "store").mkdir()
        self.store = Store(str(self.folder / "store"))

    def publish(self, bias: float = 0.0, **bundle: Any) -> str:
        """Build, sign and upload a bundle."""
        folder = self.folder / f"bundle-{bias}-{len(bundle)}"
        version = make_bundle(folder, self.model, self.keys, bias=bias, **bundle)
        upload_bundle(self.store, folder, self.model)
        return version

    def point(
        self,
        stable: str | None,
        candidate: str | None = None,
        percent: int = 50,
        mode: str = "canary",
        lease_s: float = 60.0,
        rejected: tuple[str, ...] = (),
        reason: str = "a test",
    ) -> Channel:
        """Write the next channel."""
        rollout = None
        if candidate:
            rollout = Candidate(version=candidate, mode=mode, percent=percent, lease_s=lease_s)
        self.channel = next_channel(
            self.channel,
            fleet=FLEET,
            model=self.model,
            stable=stable,
            candidate=rollout,
            rejected=rejected,
            reason=reason,
            issued_at="2026-11-20T00:00:00Z",
        )
        write_channel(self.store, self.channel, self.keys.release)
        return self.channel

    def beat(self) -> None:
        """Renew the candidate's lease."""
        assert self.channel
        self.beats += 1
        key = self.keys.release
        beat(self.store, FLEET, self.model, self.channel.serial, self.beats, key)

    def bundle(self, version: str) -> Path:
        """Return where the store keeps a bundle."""
        return self.folder / "store" / "bundles" / self.model / version

    def channel_file(self, serial: int) -> Path:
        """Return where the store keeps a channel."""
        return self.folder / "store" / "channels" / FLEET / self.model / f"{serial:012d}.json"


class HostProcess:
    """One host as its own process."""

    def __init__(self, site: Site, name: str = "a", **options: Any) -> None:
        self.site = site
        self.name = name
        self.port, self.admin_port = free_ports(2)
        self.options = {"store": site.folder / "store", "poll_s": 0.05, **options}
        self.state = site.folder / "hosts" / name
        self.log = site.folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.python: tuple[str, ...] = (sys.executable,)

    def start(self) -> "HostProcess":
        """Start the process and wait until it listens."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stderr=log, env=environment())
        self.wait(lambda: self._listens(), "listening")
        return self

    def command(self) -> list[str]:
        """Return the command line."""
        return [
            *(*self.python, "-m", "slipway.host", "--name", self.name, "--fleet", FLEET),
            *("--port", str(self.port), "--admin-port", str(self.admin_port)),
            *("--store", str(self.options["store"]), "--state", str(self.state)),
            *("--trusted-keys", str(self.site.keys.trusted_folder)),
            *("--poll-s", str(self.options["poll_s"])),
        ]

    def _listens(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.admin_port)) == 0

    def wait(self, happened: Callable[[], Any], what: str) -> Any:
        """Wait until something is true and return it."""
        return wait_until(happened, lambda: f"{what}:\n{self.log.read_text()[-4000:]}")

    def wait_for(self, **expected: Any) -> dict[str, Any]:
        """Wait until `/status` says this about the model."""

        def matches() -> dict[str, Any] | None:
            status: dict[str, Any] = self.status().get(self.site.model, {})
            same = all(status.get(key) == value for key, value in expected.items())
            return status if same and status else None

        found: dict[str, Any] = self.wait(matches, f"{expected}, but {self.status()}")
        return found

    def status(self) -> dict[str, Any]:
        """Return the models' part of `/status`."""
        models: dict[str, Any] = self.ask("GET", "/status", port=self.admin_port).json["models"]
        return models

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        port: int | None = None,
    ) -> Answer:
        """Send one request on a connection of its own."""
        return ask(port or self.port, method, path, body, headers=headers)

    def infer(
        self, document: Any = None, *, version: str | None = None, key: str | None = None
    ) -> Answer:
        """Post an inference request; by default one good row."""
        part = f"/versions/{version}" if version else ""
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Slipway-Key"] = key
        body = document if isinstance(document, bytes) else json.dumps(document or row()).encode()
        path = f"/v2/models/{self.site.model}{part}/infer"
        return self.ask("POST", path, body, headers)

    def metric(self, name: str, **labels: str) -> float:
        """Sum the samples of a metric that carry these labels."""
        return sum_metric(self.ask("GET", "/metrics").body.decode(), name, **labels)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(limit(20))


def row(carrier: str | None = "AA", delay: float | None = 12.0, **extra: Any) -> dict[str, Any]:
    """Return a request with one row."""
    return {
        "inputs": [
            {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": [carrier]},
            {"name": "delay", "shape": [1], "datatype": "FP32", "data": [delay]},
        ],
        **extra,
    }


def environment() -> dict[str, str]:
    """Return the environment for a child, in which the tests' own options mean nothing."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}


def answers(bias: float) -> float:
    """Return what the model with this bias says about the usual row."""
    inputs = {"carrier": np.array(["AA"], object), "delay": np.array([12.0], np.float32)}
    return float(open_session(make_model(bias), CPU, 1).run(inputs)["probability"][0])


def serve_one(folder: Path) -> Iterator[HostProcess]:
    """Run a host that serves one version."""
    site = Site(folder)
    version = site.publish()
    site.point(version)
    host = HostProcess(site).start()
    host.wait_for(stable=version)
    yield host
    host.stop(signal.SIGKILL)
