"""The life of one real host: it starts, switches versions under load, and stops in good order."""

import http.client
import json
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

from slipway.errors import KEY_PREFIX
from slipway.host.wire.grpc.schema import SERVICE, message_class
from tests.certificates import make_certificate
from tests.collector import Collector
from tests.pinned_host import BODY, Bundles, PinnedHost, X, make_api_key
from tests.support.pace import limit

SWITCHES = 200
SWITCHES_S = 60.0
"""A machine that needs longer for all of them makes fewer, and says how many."""
SWITCHES_MIN = 30
CLIENTS = 4


class Load:
    """Clients that keep their connections and ask until they are told to stop."""

    def __init__(self, host: PinnedHost, clients: int, pause_s: float = 0.001) -> None:
        self.host = host
        self.answers: list[tuple[int, str | None, bytes]] = []
        """Status, label and body of all of them."""
        self.unanswered: list[str] = []
        """What happened to requests that were sent and not answered."""
        self.refused = 0
        """Connections that the host did not take."""
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients = [self._pool.submit(self._run) for _ in range(clients)]

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop asking; raise what a client raised."""
        self._stop.set()
        self._pool.shutdown()
        for client in self._clients:
            client.result()

    def _run(self) -> None:
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.host.port, timeout=limit(30))
            try:
                connection.connect()
            except OSError:
                self.refused += 1
                return
            try:
                while not self._stop.is_set() and self._ask(connection):
                    time.sleep(self._pause_s)
            except (OSError, http.client.HTTPException) as error:
                self.unanswered.append(repr(error))
            finally:
                connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> bool:
        connection.request("POST", "/v2/models/mlp/infer", BODY)
        response = connection.getresponse()
        body = response.read()
        self.answers.append((response.status, response.headers["Slipway-Version"], body))
        return not response.will_close


def point(link: Path, folder: Path) -> None:
    """Point a link at a bundle, in one step."""
    draft = link.with_name(f".{link.name}")
    draft.symlink_to(folder)
    draft.replace(link)


def test_versions_switch_under_load_and_every_label_is_true(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles = Bundles(tmp_path)
    folders = [bundles.path("mlp", seed=seed) for seed in (0, 1)]
    versions = [json.loads((f / "manifest.json").read_text())["version"] for f in folders]
    link = tmp_path / "current"
    point(link, folders[0])
    with PinnedHost(tmp_path / "a", [link], bundles.keys) as host:
        truth = {}
        for folder, version in zip(folders, versions, strict=True):
            switch(host, link, folder, version)
            truth[version] = values(host.infer().body)
        assert not np.allclose(truth[versions[0]], truth[versions[1]])
        until, switches = time.monotonic() + SWITCHES_S, 0
        with Load(host, CLIENTS) as load, GrpcLoad(host) as calls:
            while switches < SWITCHES and time.monotonic() < until:
                number = switches % 2
                switch(host, link, folders[number], versions[number])
                switches += 1
        assert load.unanswered == []
        assert {status for status, _, _ in load.answers} == {200}
        assert calls.errors == []
    for _, label, body in load.answers:
        assert json.loads(body)["model_version"] == label
        np.testing.assert_allclose(values(body), truth[label], rtol=1e-5)
    for label, found in calls.answers:
        np.testing.assert_allclose(found, truth[label], rtol=1e-5)
    for labels in ({label for _, label, _ in load.answers}, {label for label, _ in calls.answers}):
        assert labels == set(versions)
    assert switches >= SWITCHES_MIN
    with capsys.disabled():
        asked = len(load.answers) + len(calls.answers)
        sys.stdout.write(f"\n{switches} switches under load, {asked} answers, none failed\n")


class GrpcLoad:
    """One gRPC client that asks until it is told to stop."""

    def __init__(self, host: PinnedHost) -> None:
        self.answers: list[tuple[str, np.ndarray]] = []
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(host,))

    def __enter__(self) -> "GrpcLoad":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self, host: PinnedHost) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{host.grpc_port}") as channel:
            infer = model_infer(channel)
            while not self._stop.is_set():
                try:
                    answer = infer(make_request(), timeout=limit(30))
                except grpc.RpcError as error:
                    self.errors.append(str(error))
                    return
                found = np.frombuffer(answer.raw_output_contents[0], np.float32)
                self.answers.append((answer.model_version, found))


def model_infer(channel: grpc.Channel) -> Callable[..., object]:
    return channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_class("ModelInferResponse").FromString,
    )


def make_request() -> object:
    return message_class("ModelInferRequest")(
        model_name="mlp",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 64]}],
        raw_input_contents=[np.array(X, np.float32).tobytes()],
    )


def values(body: bytes) -> list[float]:
    found: list[float] = json.loads(body)["outputs"][0]["data"]
    return found


def switch(host: PinnedHost, link: Path, folder: Path, version: str) -> None:
    """Have the host serve another version, and wait until it says so."""
    point(link, folder)
    host.reload()
    host.wait(lambda: host.status()["models"]["mlp"]["stable"] == version, f"at {version}")


def test_a_stop_under_load_answers_what_was_taken(tmp_path: Path) -> None:
    """The host's own log counts what it answered; each of these answers has reached somebody."""
    bundles = Bundles(tmp_path)
    log = tmp_path / "access.jsonl"
    host = PinnedHost(
        tmp_path / "a", [bundles.path("mlp")], bundles.keys, access_log=log, max_delay_us=100_000
    )
    with host, Load(host, 8, pause_s=0) as load:
        host.wait(lambda: len(load.answers) > 40, "asked")
        assert host.process
        host.process.send_signal(signal.SIGTERM)
        assert host.process.wait(limit(30)) == 0
        load.stop()
    assert host.process.returncode == 0
    stopped = json.loads(host.log.read_text().splitlines()[-1])
    assert (stopped["message"], stopped["drained"]) == ("host stopped", True)
    answered = [status for status, _, _ in load.answers]
    assert set(answered) <= {200, 503}
    infers = [json.loads(line) for line in log.read_text().splitlines()]
    assert answered.count(200) == sum(line["code"] == "ok" for line in infers)


def test_a_host_is_ready_soon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundles = Bundles(tmp_path)
    with PinnedHost(tmp_path / "a", [bundles.path("mlp")], bundles.keys) as host:
        assert host.infer().status == 200
    with capsys.disabled():
        sys.stdout.write(f"\nready {host.ready_s:.2f} s after its start\n")
    assert host.ready_s < limit(5)


def test_everything_at_once_answers_and_tells_no_secret(tmp_path: Path) -> None:
    bundles = Bundles(tmp_path)
    authority, key = make_certificate(tmp_path)
    secret = make_api_key(tmp_path / "keys.json")
    bearer = {"Authorization": f"Bearer {secret}"}
    collector = Collector()
    host = PinnedHost(
        tmp_path / "a", [bundles.path("mlp"), bundles.path("types")], bundles.keys,
        api_keys=tmp_path / "keys.json", tls_cert=authority, tls_key=key,
        access_log=tmp_path / "out" / "access.jsonl", audit_log=tmp_path / "out" / "audit.jsonl",
        capture=tmp_path / "out" / "capture", capture_ratio=1.0, redact="in_BYTES",
        traces=collector.endpoint, trace_ratio=1.0,
        cache_mib=16, p95_ms=50.0, memory_mib=2000, threads=2, queue=500,
    )  # fmt: skip
    (tmp_path / "out").mkdir()
    host.headers = bearer
    host.command[:3] = [str(Path(sys.executable).with_name("slipway")), "host"]
    said: list[bytes] = []
    try:
        with host:
            url = f"https://localhost:{host.port}"
            trust = ssl.create_default_context(cafile=authority)
            with httpx.Client(base_url=url, verify=trust, trust_env=False) as client:
                for headers, expected in ((bearer, 200), ({}, 401)):
                    for _ in range(20):
                        answer = client.post("/v2/models/mlp/infer", content=BODY, headers=headers)
                        assert answer.status_code == expected, answer.text
                        said.append(answer.content)
                for path in ("/v2", "/v2/models/mlp", "/v2/models/mlp/config", "/metrics"):
                    answer = client.get(path, headers=bearer)
                    assert answer.status_code == 200
                    said.append(answer.content)
                assert b"slipway_cache_" in answer.content
                wrong = {"Authorization": f"Bearer {secret}x"}
                said.append(client.get("/v2", headers=wrong).content)
                bad = client.post("/v2/models/mlp/infer", content=secret, headers=bearer)
                assert bad.status_code == 400
                said.append(bad.content)
            credentials = grpc.ssl_channel_credentials(authority.read_bytes())
            with grpc.secure_channel(f"localhost:{host.grpc_port}", credentials) as channel:
                metadata = [("authorization", f"Bearer {secret}")]
                answer = model_infer(channel)(make_request(), metadata=metadata)
                assert answer.model_name == "mlp"
            host.reload()
            assert host.ask("POST", "/reload", port=host.admin_port).status in (200, 202)
            said.append(json.dumps(host.status()).encode())
            assert collector.wait(20)
    finally:
        collector.close()
    assert list((tmp_path / "out" / "capture").rglob("*.parquet"))
    access = (tmp_path / "out" / "access.jsonl").read_text().splitlines()
    assert [json.loads(line)["code"] for line in access].count("ok") == 21  # not the strangers'
    written = [
        path for folder in (tmp_path / "out", tmp_path / "a")
        for path in folder.rglob("*") if path.is_file()
    ]  # fmt: skip
    assert host.log in written
    for words in [*said, *collector.raw, *(path.read_bytes() for path in written)]:
        assert secret.encode() not in words
        assert secret.removeprefix(KEY_PREFIX).encode() not in words
    assert "Traceback" not in host.log.read_text()
    assert os.stat(tmp_path / "out" / "audit.jsonl").st_mode & 0o007 == 0
