"""The life of one real host: it starts, switches versions under load, and stops in good order."""

import json
import os
import signal
import ssl
import sys
from pathlib import Path

import grpc
import httpx
import pytest

from slipway.errors import KEY_PREFIX
from tests.certificates import make_certificate
from tests.collector import Collector
from tests.pinned_host import BODY, Bundles, PinnedHost, make_api_key
from tests.support.pace import limit
from tests.support.switching import Load, make_request, model_infer, switch_under_load


def test_versions_switch_under_load_and_every_label_is_true(tmp_path: Path) -> None:
    """Thousands of switches: tests/soak."""
    assert switch_under_load(tmp_path, switches=30).answers > 300


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
