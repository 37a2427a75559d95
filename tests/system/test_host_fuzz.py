"""Malformed and nearly good requests, 50,000 of them, to host processes over real sockets.

Half of them go to the real host with ONNX models, half to one whose models answer what they are
given, so that every datatype's answer is compared bit by bit with what was sent.
"""

import sys
from pathlib import Path

import pytest

from tests.fuzz.requests import OWN_MODELS, Report, fuzz, own_host
from tests.pinned_host import Bundles, PinnedHost

pytestmark = pytest.mark.slow  # 50,000 requests

COUNT = 25_000
SEED = 2026

MODELS = ["types", "bf16", "fixed", "mlp"]
"""Models that no finite input can make fail."""


def check(report: Report) -> None:
    """Show the counts; expect no defect, and a mixture that can find one."""
    sys.stdout.write(f"{report}\n")
    assert report.defects == []
    assert report.count >= COUNT
    for kind in ("bodies", "encodings", "heads", "streams"):
        assert report.asked[kind] > COUNT * 0.05
    assert 0.1 < report.codes["ok"] / report.count < 0.6


def test_no_request_makes_the_host_crash_or_hang_or_give_two_verdicts(tmp_path: Path) -> None:
    bundles = Bundles(tmp_path)
    paths = [bundles.path(kind) for kind in MODELS]
    with PinnedHost(tmp_path / "a", paths, bundles.keys) as host:
        check(fuzz(COUNT, SEED, host.port, host.grpc_port, MODELS))
    text = host.log.read_text()
    assert "Traceback" not in text
    assert '"level": "error"' not in text


def test_no_request_of_any_datatype_is_answered_with_other_bits() -> None:
    with own_host() as (port, grpc_port):
        check(fuzz(COUNT, SEED, port, grpc_port, OWN_MODELS))
