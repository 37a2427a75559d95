"""`slipway host --processes 2`: from outside one host, inside a supervisor and its processes."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from slipway.host.guard.keys import ApiKey, add_key, digest
from slipway.host.process.many.ask import ask as ask_process
from slipway.host.process.options import admin_socket
from slipway.host.wire.grpc.schema import SERVICE, message_class
from tests.bundles import make_keys
from tests.hosts import environment
from tests.support.asking import ask, sum_metric
from tests.support.pace import limit
from tests.support.ports import free_ports
from tests.support.processes import alive
from tests.support.waiting import wait_until
from tests.tensors import make_tensor_bundle

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}]}
)


class Manager:
    """Hears what a service manager would."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def __enter__(self) -> "Manager":
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def heard(self) -> list[str]:
        """Return what was said since the last time."""
        said = []
        while True:
            try:
                said.append(self._socket.recv(1000).decode())
            except BlockingIOError:
                return said


class Host:
    """One host of several processes."""

    def __init__(self, folder: Path, bundle: Path, **options: Any) -> None:
        self.port, self.grpc_port, self.admin_port = free_ports(3)
        self.state = folder / "state"
        self.log = folder / "log"
        given = {
            "name": "a",
            "port": self.port,
            "grpc-port": self.grpc_port,
            "admin-port": self.admin_port,
            "trusted-keys": make_keys(bundle.parent / "keys").trusted_folder,
            "state": self.state,
            "bundle": bundle,
            "processes": 2,
            **options,
        }
        self.words = [str(w) for name, value in given.items() for w in (f"--{name}", value)]
        self.headers: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.manager: Manager | None = None

    def __enter__(self) -> "Host":
        command = [sys.executable, "-m", "slipway.host", *self.words]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stderr=log, env={**environment(), **self.environment}
            )
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def wait(self, happened: Callable[[], Any], what: str) -> Any:
        return wait_until(happened, lambda: f"{what}: {self.log.read_text()[-4000:]}", 30)

    def wait_until_ready(self) -> dict[str, Any]:
        """Wait until all processes serve, and listen."""

        def ready() -> Any:
            try:
                status = self.status()
            except OSError:
                return None
            return status if status["ready"] and self.listening() == 2 else None

        found: dict[str, Any] = self.wait(ready, "ready")
        return found

    def listening(self) -> int:
        """Count the processes that listen for requests: each has a row in the kernel's table."""
        wanted = f"0100007F:{self.port:04X}"
        rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return sum(row.split()[1] == wanted and row.split()[3] == "0A" for row in rows)

    def ask(self, method: str, path: str, port: int, body: str | None = None, **headers: str):
        answer = ask(port, method, path, body, headers={**self.headers, **headers})
        return answer.status, answer.body

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("GET", "/status", self.admin_port)[1])
        return found

    def infer(self) -> tuple[int, Any]:
        code, body = self.ask("POST", "/v2/models/mlp/infer", self.port, BODY)
        return code, json.loads(body)

    def answered(self) -> float:
        """How many requests the whole host has answered; any process tells."""
        code, text = self.ask("GET", "/metrics", self.port)
        assert code == 200
        return count_ok(text)

    def own(self, number: int) -> bytes:
        """What one process tells of itself."""
        return asyncio.run(ask_process(admin_socket(self.state, number), "/metrics"))


def count_ok(text: bytes) -> float:
    return sum_metric(text.decode(), "slipway_requests_total", code="ok")


class Load:
    """Clients that keep their connections and ask as fast as they can."""

    def __init__(self, host: Host, clients: int) -> None:
        self._host = host
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self.codes: dict[int, int] = {}
        self.broken = 0
        """Connections that ended before an answer."""
        self._lock = threading.Lock()
        self._clients = [self._pool.submit(self._run) for _ in range(clients)]

    def stop(self) -> None:
        self._stop.set()
        for client in self._clients:
            client.result()
        self._pool.shutdown()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._host.port, timeout=limit(30))
        while not self._stop.is_set():
            try:
                connection.request("POST", "/v2/models/mlp/infer", BODY, self._host.headers)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                with self._lock:
                    self.broken += 1
                if self._host.process and self._host.process.poll() is not None:
                    return
            else:
                with self._lock:
                    self.codes[response.status] = self.codes.get(response.status, 0) + 1
            time.sleep(0.005)
        connection.close()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two versions of one model."""
    folder = tmp_path_factory.mktemp("bundles")
    keys = make_keys(folder / "keys")
    for seed in (0, 1):
        make_tensor_bundle(folder / f"mlp-{seed}", "mlp", keys=keys, seed=seed)
    return folder / "mlp-0", folder / "mlp-1"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, bundles: tuple[Path, Path]) -> Iterator[Host]:
    """A host that the tests of this file share; the last of them end it."""
    live = bundles[0].with_name("live")
    live.symlink_to(bundles[0].name)
    with Host(tmp_path_factory.mktemp("many"), live) as one:
        one.wait_until_ready()
        yield one


def test_two_processes_answer_as_one_host(host: Host):
    status = host.status()
    assert host.process
    pids = {each["pid"] for each in status["processes"]}
    assert len(pids) == 2
    assert host.process.pid not in pids
    assert [(x["ready"], x["restarts"]) for x in status["processes"]] == [(True, 0)] * 2
    assert status["url"] == f"http://127.0.0.1:{host.port}"
    assert len(status["models"]["mlp"]["stable"]) == 64
    assert host.listening() == 2


def test_what_each_counts_adds_up_exactly_whoever_is_asked(host: Host):
    before = host.answered()
    with ThreadPoolExecutor(8) as pool:
        codes = [code for code, _ in pool.map(lambda _: host.infer(), range(200))]
    assert codes == [200] * 200
    assert {host.answered() for _ in range(8)} == {before + 200}
    parts = [count_ok(host.own(number)) for number in (0, 1)]
    assert sum(parts) == before + 200
    assert min(parts) > 0, "the kernel gave all 200 connections to one process"
    code, text = host.ask("GET", "/metrics", host.admin_port)
    assert (code, count_ok(text)) == (200, before + 200)
    assert b"\nslipway_processes_silent 0.0\n" in text


def test_grpc_is_shared_too(host: Host):
    for _ in range(8):
        with grpc.insecure_channel(f"127.0.0.1:{host.grpc_port}") as channel:
            ready = channel.unary_unary(
                f"/{SERVICE}/ServerReady",
                request_serializer=message_class("ServerReadyRequest").SerializeToString,
                response_deserializer=message_class("ServerReadyResponse").FromString,
            )
            assert ready(message_class("ServerReadyRequest")()).ready is True


def test_reload_swaps_all_of_them(host: Host, bundles: tuple[Path, Path]):
    before = host.status()["models"]["mlp"]["stable"]
    live = bundles[0].with_name("live")
    (aside := live.with_name("aside")).symlink_to(bundles[1].name)
    aside.rename(live)
    code, body = host.ask("POST", "/reload", host.admin_port)
    assert (code, json.loads(body)["name"]) == (200, "a")

    def swapped() -> Any:
        return host.status()["models"]["mlp"]["stable"] not in (before, None)

    host.wait(swapped, "swapped")
    after = host.status()["models"]["mlp"]["stable"]
    assert {host.infer()[1]["model_version"] for _ in range(20)} == {after}
    for folder in (host.state, host.state / "0", host.state / "1"):
        assert '"event": "reload"' in (folder / "audit.jsonl").read_text()


def test_of_a_process_that_is_killed_only_its_connections_fail_and_it_comes_back(host: Host):
    victim = host.status()["processes"][0]["pid"]
    answered = host.answered()
    load = Load(host, clients=20)
    parts = [0.0, 0.0]

    def counted() -> bool:  # twice a second
        parts[:] = [
            sum_metric(host.own(n).decode(), "slipway_connections", listener="http") for n in (0, 1)
        ]
        return sum(parts) == 20

    host.wait(counted, f"20 connections: {parts}")
    theirs = parts[0]
    os.kill(victim, signal.SIGKILL)
    host.wait(lambda: host.status()["processes"][0]["restarts"] == 1, "started again")
    fresh = []  # connections made while the new process loads its models

    def back() -> bool:
        fresh.extend(host.infer()[0] for _ in range(5))
        return host.status()["ready"] and host.listening() == 2

    host.wait(back, "back")
    answered_since = host.answered()
    late = [host.infer()[0] for _ in range(20)]
    load.stop()
    assert 0 < theirs < 20, "the kernel gave all connections to one process"
    assert load.broken == theirs
    assert set(load.codes) == {200}
    assert set(fresh + late) == {200}
    assert answered_since > answered
    assert host.status()["processes"][0]["pid"] != victim
    assert '"a process ended; starting another", "number": 0, "code": -9' in host.log.read_text()
    text = host.ask("GET", "/metrics", host.port)[1]
    assert b'slipway_process_restarts_total{process="0"} 1.0' in text


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_host_on_the_same_port_is_refused(host: Host, bundles, tmp_path, processes):
    with Host(tmp_path, bundles[0], port=host.port, processes=processes) as other:
        assert other.process
        assert other.process.wait(limit(30)) == 1
    said = other.log.read_text()
    assert f"slipway: port {host.port} on 127.0.0.1 is in use" in said
    assert host.infer()[0] == 200


def test_nothing_is_left_of_a_host_whose_supervisor_is_killed(host: Host):
    pids = [each["pid"] for each in host.status()["processes"]]
    assert all(map(alive, pids))
    assert host.process
    host.process.kill()
    host.process.wait()
    host.wait(lambda: not any(map(alive, pids)), "gone")
    host.wait(lambda: host.listening() == 0, "closed")


def test_what_is_wrong_for_all_is_told_once_and_ends_the_host(bundles, tmp_path):
    files = {"tls-cert": tmp_path / "no", "tls-key": tmp_path / "no"}
    with Host(tmp_path, bundles[0], **files) as host:
        assert host.process
        assert host.process.wait(limit(30)) == 1
    said = [x for x in host.log.read_text().splitlines() if x.startswith("slipway: ")]
    assert len(said) == 1
    assert str(tmp_path / "no") in said[0]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, bundles: tuple[Path, Path]) -> Iterator[Host]:
    """A host that knows two keys; the last test ends it."""
    folder = tmp_path_factory.mktemp("keyed")
    for name, rows in (("ours", None), ("theirs", 40)):
        key = ApiKey(
            id=name,
            sha256=digest(name.encode()),
            scopes=("infer", "admin"),
            quota_rows_per_day=rows,
        )
        add_key(folder / "keys.json", key)
    host = Host(folder, bundles[0], **{"api-keys": folder / "keys.json"})
    host.headers = {"Authorization": "Bearer ours"}
    host.environment = {"NOTIFY_SOCKET": str(folder / "manager"), "WATCHDOG_USEC": "9000000"}
    with Manager(folder / "manager") as manager, host as one:
        one.manager = manager
        one.wait_until_ready()
        yield one


def test_the_service_manager_is_told_once_that_all_of_them_listen(keyed: Host):
    assert keyed.manager
    assert keyed.manager.heard().count("READY=1") == 1


def test_the_admin_port_of_all_asks_for_a_key_too(keyed: Host):
    for method, path in (("GET", "/status"), ("GET", "/metrics"), ("POST", "/reload")):
        assert keyed.ask(method, path, keyed.admin_port, Authorization="")[0] == 401
        assert keyed.ask(method, path, keyed.admin_port)[0] == 200


def test_each_of_two_processes_gives_a_key_half_of_its_quota(keyed: Host):
    path, theirs = "/v2/models/mlp/infer", {"Authorization": "Bearer theirs"}
    codes = [keyed.ask("POST", path, keyed.port, BODY, **theirs)[0] for _ in range(150)]
    assert (codes.count(200), codes.count(429)) == (40, 110)


def test_the_service_manager_hears_of_life_only_while_all_of_them_answer(keyed: Host):
    assert keyed.manager
    keyed.wait(lambda: "WATCHDOG=1" in keyed.manager.heard(), "alive")
    before = count_ok(keyed.ask("GET", "/metrics", keyed.admin_port)[1])
    victim = keyed.status()["processes"][1]["pid"]
    os.kill(victim, signal.SIGSTOP)
    try:
        assert keyed.status()["ready"] is False
        text = keyed.ask("GET", "/metrics", keyed.admin_port)[1]
        assert b"\nslipway_processes_silent 1.0\n" in text
        assert count_ok(text) == before
        keyed.manager.heard()
        time.sleep(2)
        assert keyed.manager.heard() == []
    finally:
        os.kill(victim, signal.SIGCONT)
    keyed.wait(lambda: "WATCHDOG=1" in keyed.manager.heard(), "alive again")


def test_sigterm_lets_all_of_them_finish(keyed: Host):
    pids = [each["pid"] for each in keyed.status()["processes"]]
    load = Load(keyed, clients=8)
    wait_until(lambda: load.codes.get(200), "an answer")
    assert keyed.process
    keyed.process.terminate()
    assert keyed.process.wait(limit(30)) == 0
    load.stop()
    assert keyed.manager
    assert "STOPPING=1" in keyed.manager.heard()
    assert set(load.codes) <= {200, 503}
    assert not any(map(alive, pids))
    assert keyed.log.read_text().count('"drained": true') == 2
