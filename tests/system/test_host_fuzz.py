"""50,000 malformed and nearly good requests to a host process, over real sockets."""

import os

from tests.fuzz.requests import OWN_MODELS, Report, fuzz, own_host

COUNT = int(os.environ.get("SLIPWAY_FUZZ_COUNT", "50000"))
SEED = 2026


def test_no_request_crashes_or_hangs_a_host_or_gets_two_verdicts() -> None:
    with own_host() as (port, grpc_port):
        report = fuzz(COUNT, SEED, port, grpc_port, OWN_MODELS)
    check(report, COUNT)


def check(report: Report, count: int) -> None:
    """Show the counts; expect no defect, and a mixture that can find one."""
    print(report)  # noqa: T201  # shown by pytest where it fails, and with -s
    assert report.defects == []
    assert report.count >= count
    assert all(report.asked[kind] > count * 0.05 for kind in ("bodies", "encodings", "heads", "streams"))
    assert 0.1 < report.codes["ok"] / report.count < 0.6
