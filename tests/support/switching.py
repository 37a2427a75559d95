"""Versions that switch while callers ask: every answer must be that of the version on its label."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from slipway.host.wire.grpc.schema import SERVICE, message_class
from tests.pinned_host import BODY, Bundles, PinnedHost, X
from tests.support.pace import limit

CLIENTS = 4


@dataclass(frozen=True)
class Switched:
    """How much was asked and switched."""

    switches: int
    answers: int


def switch_under_load(folder: Path, switches: int) -> Switched:
    """Switch a host between two versions while callers of both protocols ask it."""
    bundles = Bundles(folder)
    folders = [bundles.path("mlp", seed=seed) for seed in (0, 1)]
    versions = [json.loads((f / "manifest.json").read_text())["version"] for f in folders]
    link = folder / "current"
    point(link, folders[0])
    with PinnedHost(folder / "a", [link], bundles.keys) as host:
        truth = {}
        for bundle, version in zip(folders, versions, strict=True):
            switch(host, link, bundle, version)
            truth[version] = values(host.infer().body)
        assert not np.allclose(truth[versions[0]], truth[versions[1]])
        with Load(host, CLIENTS) as load, GrpcLoad(host) as calls:
            for number in range(switches):
                switch(host, link, folders[number % 2], versions[number % 2])
        assert load.unanswered == []
        assert {status for status, _, _ in load.answers} == {200}
        assert calls.errors == []
    for _, label, body in load.answers:
        assert json.loads(body)["model_version"] == label
        np.testing.assert_allclose(values(body), truth[str(label)], rtol=1e-5)
    for label, found in calls.answers:
        np.testing.assert_allclose(found, truth[label], rtol=1e-5)
    for labels in ({label for _, label, _ in load.answers}, {label for label, _ in calls.answers}):
        assert labels == set(versions)
    return Switched(switches, len(load.answers) + len(calls.answers))


def point(link: Path, folder: Path) -> None:
    """Point a link at a bundle, in one step."""
    draft = link.with_name(f".{link.name}")
    draft.symlink_to(folder)
    draft.replace(link)


def switch(host: PinnedHost, link: Path, folder: Path, version: str) -> None:
    """Have the host serve another version, and wait until it says so."""
    point(link, folder)
    host.reload()
    host.wait(lambda: host.status()["models"]["mlp"]["stable"] == version, f"at {version}")


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
