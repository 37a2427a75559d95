"""Malformed and nearly good requests, 50,000 of them, to host processes over real sockets.

Half of them go to the real host with ONNX models, half to one whose models answer what they are
given, so that every datatype's answer is compared bit by bit with what was sent.
"""

import http.client
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bundles import make_keys
from tests.fuzz.requests import OWN_MODELS, Report, fuzz, own_host
from tests.hosts import environment
from tests.support.pace import limit
from tests.support.ports import free_ports
from tests.support.waiting import wait_until
from tests.tensors import make_tensor_bundle

pytestmark = pytest.mark.slow  # 50,000 requests

COUNT = 25_000
SEED = 2026

MODELS = ["types", "bf16", "fixed", "mlp"]
"""Models that no finite input can make fail."""


@contextmanager
def real_host(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Run the host with some bundles; give its ports and its log."""
    keys = make_keys(folder / "keys")
    for kind in MODELS:
        make_tensor_bundle(folder / kind, kind, keys=keys)
    port, grpc_port, admin_port = free_ports(3)
    command = [
        *(sys.executable, "-m", "slipway.host", "--name", "a", "--state", str(folder / "state")),
        *("--port", str(port), "--grpc-port", str(grpc_port), "--admin-port", str(admin_port)),
        *("--trusted-keys", str(keys.trusted_folder)),
    ]
    command += [part for kind in MODELS for part in ("--bundle", str(folder / kind))]
    log = folder / "host.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, env=environment())
    try:
        wait_until_ready(port, process, log)
        yield port, grpc_port, log
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(limit(30)) == 0
    finally:
        process.kill()
        process.wait()


def wait_until_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit(5))
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False  # it does not listen yet
        finally:
            connection.close()

    wait_until(is_ready, lambda: f"ready:\n{log.read_text()}", 30)


def check(report: Report) -> None:
    """Show the counts; expect no defect, and a mixture that can find one."""
    sys.stdout.write(f"{report}\n")
    assert report.defects == []
    assert report.count >= COUNT
    for kind in ("bodies", "encodings", "heads", "streams"):
        assert report.asked[kind] > COUNT * 0.05
    assert 0.1 < report.codes["ok"] / report.count < 0.6


def test_no_request_makes_the_host_crash_or_hang_or_give_two_verdicts(tmp_path: Path) -> None:
    with real_host(tmp_path) as (port, grpc_port, log):
        check(fuzz(COUNT, SEED, port, grpc_port, MODELS))
    text = log.read_text()
    assert "Traceback" not in text
    assert '"level": "error"' not in text


def test_no_request_of_any_datatype_is_answered_with_other_bits() -> None:
    with own_host() as (port, grpc_port):
        check(fuzz(COUNT, SEED, port, grpc_port, OWN_MODELS))
