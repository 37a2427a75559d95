"""h2load and slowhttptest, as the distributions package them, against a real host."""

import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from slipway.host.wire.grpc.schema import SERVICE, message_class
from tests.pinned_host import BODY, Bundles, PinnedHost, X
from tests.support.pace import limit

pytestmark = pytest.mark.slow  # attackers are slow for longer than the host has patience

REQUESTS = 8000
SLOW = 250
"""Connections of each kind of slow client."""


def needs(program: str, package: str) -> pytest.MarkDecorator:
    missing = shutil.which(program) is None
    return pytest.mark.skipif(missing, reason=f"needs {program}: apt-get install {package}")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PinnedHost]:
    folder = tmp_path_factory.mktemp("host")
    bundles = Bundles(folder)
    with PinnedHost(folder / "a", [bundles.path("mlp")], bundles.keys, queue=4096) as started:
        yield started


def load(host: PinnedHost, url: str, body: bytes, folder: Path, *words: str) -> float:
    """Send the requests with h2load; return how many of them the host says it answered."""
    (folder / "body").write_bytes(body)
    before = host.metric("slipway_requests_total", code="ok")
    done = subprocess.run(
        ["h2load", "-n", str(REQUESTS), "-d", str(folder / "body"), *words, url],
        capture_output=True, text=True, timeout=limit(60), check=True,
    )  # fmt: skip
    assert f"{REQUESTS} done, {REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
    assert f"status codes: {REQUESTS} 2xx" in done.stdout
    return host.metric("slipway_requests_total", code="ok") - before


@needs("h2load", "nghttp2-client")
@pytest.mark.parametrize("pipelined", [1, 8, 16])
def test_h2load_keeps_connections_and_pipelines(
    host: PinnedHost, tmp_path: Path, pipelined: int
) -> None:
    url = f"http://127.0.0.1:{host.port}/v2/models/mlp/infer"
    words = ("--h1", "-c", "16", "-m", str(pipelined), "-H", "content-type: application/json")
    assert load(host, url, BODY, tmp_path, *words) == REQUESTS


@needs("h2load", "nghttp2-client")
@pytest.mark.parametrize("streams", [1, 32])
def test_h2load_makes_grpc_calls(host: PinnedHost, tmp_path: Path, streams: int) -> None:
    """A call's status is in its trailers, which h2load does not read; the host counts them."""
    message = message_class("ModelInferRequest")(
        model_name="mlp",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 64]}],
        raw_input_contents=[np.array(X, np.float32).tobytes()],
    ).SerializeToString()
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    url = f"http://127.0.0.1:{host.grpc_port}/{SERVICE}/ModelInfer"
    words = ("-c", "8", "-m", str(streams), "-H", "content-type: application/grpc")
    answered = load(host, url, frame, tmp_path, *words, "-H", "te: trailers")
    assert answered == REQUESTS


ATTACKS = {
    "slow headers": ("-H", "-t", "GET", "-l", "15"),
    "slow bodies": ("-B", "-t", "POST", "-s", "100000", "-f", "application/json", "-l", "36"),
    "slow reading": ("-X", "-k", "10", "-n", "1", "-w", "1", "-y", "2", "-z", "1", "-l", "15"),
}
"""How each is slow, and how long it tries: longer than the host has patience, 5 s for a head
and 30 s for a body. The kernel takes the answers of the slow readers, so that these cost the
host nothing but a connection."""

CLOSED = ("slow headers", "slow bodies")
"""What the host has ended when the attacker looks for the last time."""


@needs("slowhttptest", "slowhttptest")
def test_slow_clients_are_ended_while_others_are_answered(host: PinnedHost) -> None:
    url = f"http://127.0.0.1:{host.port}"
    quiet = statistics.median(time_requests(host, 1.0))
    attacks = {}
    for name, words in ATTACKS.items():
        path = "/openapi.json" if name == "slow reading" else "/v2/models/mlp/infer"
        attacks[name] = subprocess.Popen(
            ["slowhttptest", *words, "-c", str(SLOW), "-r", str(SLOW), "-i", "2", "-x", "10",
             "-p", "5", "-v", "1", "-u", url + path],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    times = []
    most = 0.0
    while any(attack.poll() is None for attack in attacks.values()):
        times += time_requests(host, 0.3)
        most = max(most, host.metric("slipway_connections", listener="http"))
        time.sleep(0.7)  # the attackers need processors, too
    reports = {name: read(attack) for name, attack in attacks.items()}
    for name, report in reports.items():
        assert re.findall(r"service available: +(\w+)", report)[-1] == "YES", report
        ended = "No open connections left" if name in CLOSED else "Hit test time limit"
        assert f"Exit status: {ended}" in report, report
    assert most > 2 * SLOW  # they were all there
    assert max(times) < limit(1)
    assert statistics.median(times) < 10 * quiet + limit(
        0.01
    )  # the attackers keep two processors busy
    assert host.wait(lambda: host.metric("slipway_connections", listener="http") < SLOW, "rid")


def time_requests(host: PinnedHost, seconds: float) -> list[float]:
    """Ask on a new connection each time, as one who comes would; return how long it took."""
    times, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        assert host.infer().status == 200
        times.append(time.monotonic() - began)
    return times


def read(attack: subprocess.Popen[str]) -> str:
    assert attack.stdout
    with attack.stdout:
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", attack.stdout.read())
