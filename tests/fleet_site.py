"""A project folder with a fleet of two hosts on free ports, for tests of the fleet."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from slipway.config import ReleaseConfig, ReleaseLimits
from slipway.fleet.client import HttpClient
from slipway.fleet.controller import Controller
from slipway.fleet.inventory import Fleet, load_fleet
from slipway.fleet.keys import Keys, ensure_local_keys
from slipway.fleet.launch.launcher import Launcher
from slipway.fleet.launch.local import LOCAL
from slipway.fleet.release import Release, release
from slipway.store.bundles import upload_bundle
from slipway.store.objects import Store
from tests.bundles import make_bundle
from tests.host_client import BODY
from tests.support.pace import limit
from tests.support.ports import free_ports

PROJECT = Path(__file__).parents[1]
MODEL = "flights"

LIMITS = ReleaseLimits(
    error_share_rise_max=0.0,
    quality={"auc": 0.05, "log_loss": 0.2},
    p99_ratio_max=100.0,
    p99_slack_ms=500.0,
)
CONFIG = ReleaseConfig(
    percent=30, lease_s=limit(1.0), requests=50, rows_per_request=16, wait_s=limit(10.0),
    limits=LIMITS,
)  # fmt: skip
"""Short leases and few requests, so that a release takes a few seconds."""

PATIENT = CONFIG.model_copy(update={"limits": LIMITS.model_copy(update={"p99_slack_ms": 60_000.0})})
"""For real hosts: they share two cores with the tests, and latency is not what these are about."""


@dataclass
class Site:
    """One project with its fleet; `said` is what the release told meanwhile."""

    root: Path
    fleet: Fleet
    keys: Keys
    launcher: Launcher = LOCAL
    said: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return Store(self.fleet.store)

    def publish(self, **bundle: object) -> str:
        """Make, sign and upload a bundle; return its version."""
        folder = self.root / f"bundle-{len(list(self.root.glob('bundle-*')))}"
        version = make_bundle(folder, MODEL, keys=self.keys, **bundle)
        upload_bundle(self.store, folder, MODEL)
        return version

    def controller(self, say: Callable[[str], None] | None = None) -> Controller:
        return Controller.open(
            self.fleet, MODEL, self.keys.release, say or self.said.append, run="test"
        )

    def release(self, version: str, config: ReleaseConfig = PATIENT) -> Release:
        return release(self.controller(), version, config)

    def up(self) -> list[str]:
        return self.launcher.up(self.fleet, HttpClient(self.fleet.credentials), self.said.append)

    def down(self) -> list[str]:
        return self.launcher.down(self.fleet, self.said.append)


def make_project(root: Path) -> Path:
    """Make a folder that the command line takes for a project, with one pipeline."""
    (root / "configs/fleets").mkdir(parents=True)
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "configs/flights.yaml").write_bytes((PROJECT / "configs/flights.yaml").read_bytes())
    return root


def make_site(root: Path) -> Site:
    """Make a project with a fleet on free ports; nothing runs yet."""
    ports = iter(free_ports(6))
    hosts = "".join(
        f"  - {{name: {name}, address: 127.0.0.1, port: {next(ports)}, grpc_port: {next(ports)},"
        f" admin_port: {next(ports)}}}\n"
        for name in "ab"
    )
    (make_project(root) / "configs/fleets/local.yaml").write_text(
        "store: .slipway/store\n"
        "trusted_keys: .slipway/fleets/local/trusted_keys\n"
        "state: .slipway/fleets/local/hosts\n"
        "launch: local\n"
        f"hosts:\n{hosts}"
    )
    fleet = load_fleet(root, "local")
    return Site(root, fleet, ensure_local_keys(root, fleet))


@contextmanager
def running_site(root: Path) -> Iterator[Site]:
    """Make a project and start its hosts; stop them in the end, whatever happened."""
    site = make_site(root)
    try:
        site.up()
        yield site
    finally:
        site.down()


class Callers:
    """Somebody who asks all hosts all the time, and notes what stable callers get."""

    def __init__(self, site: Site, model: str = MODEL, body: bytes = BODY) -> None:
        self.asked = 0
        self.versions: set[str | None] = set()
        self.errors: list[str] = []
        self._site, self._model, self._body = site, model, body
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Callers":
        self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        client = HttpClient()
        for i in itertools.count():
            if self._stop.wait(0.005):
                return
            for host in self._site.fleet.hosts:
                answer = client.infer(host, self._model, self._body, key=f"c-{i}", version=None)
                self.asked += 1
                self.versions.add(answer.version)
                self.errors += [answer.error] if answer.error else []
