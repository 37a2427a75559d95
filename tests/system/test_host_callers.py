"""What callers see of a real host over real sockets, whatever they send."""

import gzip
import http.client
import json
import re
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.hosts import FLEET, HostProcess, answers, row
from tests.support.pace import limit

LEAKS = re.compile(
    r"(?i)/(?:tmp|home|root|usr|work|opt)|0x[0-9a-f]{4}|traceback|\.py|onnx|orjson|httptools|uvloop"
    r"|numpy|asyncio|127\.0|localhost|site-packages|errno| at line"
)
"""Words that would tell a caller where and on what this host runs."""


def test_an_answer_is_the_models_own_and_says_who_gave_it(shared: HostProcess) -> None:
    version = shared.status()["flights"]["stable"]
    answer = shared.infer(row(id="mine"))
    assert answer.status == 200
    assert answer.headers["Slipway-Version"] == version
    assert answer.json == {
        "model_name": "flights",
        "model_version": version,
        "id": "mine",
        "outputs": [
            {
                "name": "probability",
                "datatype": "FP32",
                "shape": [1],
                "data": [pytest.approx(answers(0.0), abs=1e-7)],
            }
        ],
    }


def test_missing_and_unknown_values_are_answered_as_the_contract_says(shared: HostProcess) -> None:
    assert (
        shared.infer(row(None, None)).json["outputs"] == shared.infer(row("", 10.0)).json["outputs"]
    )
    assert (
        shared.infer(row("ZZ", 10.0)).json["outputs"] == shared.infer(row("", None)).json["outputs"]
    )


def test_rows_are_answered_in_their_order_whatever_the_batch(shared: HostProcess) -> None:
    delays = [float(n % 90 - 20) for n in range(256)]
    one_by_one = [
        shared.infer(row("DL", delay)).json["outputs"][0]["data"][0] for delay in delays[:20]
    ]
    for rows in (256, 2, 20):
        document = {
            "inputs": [
                {"name": "carrier", "shape": [rows], "datatype": "BYTES", "data": ["DL"] * rows},
                {"name": "delay", "shape": [rows], "datatype": "FP32", "data": delays[:rows]},
            ]
        }
        got = shared.infer(document).json["outputs"][0]["data"]
        assert len(got) == rows
        assert got[:20] == pytest.approx(one_by_one[:rows], abs=1e-6)


def test_health_metadata_and_metrics_are_there(shared: HostProcess) -> None:
    for path in ("/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models/flights",
                 "/v2/models/flights/ready", "/metrics"):  # fmt: skip
        answer = shared.ask("GET", path)
        assert answer.status == 200, path
        assert not any(name.lower().startswith("access-control") for name in answer.headers)
    assert shared.metric("slipway_requests_total", model="flights", code="ok") >= 1


def test_the_admin_port_tells_loopback_alone(shared: HostProcess) -> None:
    port = shared.admin_port
    body = shared.ask("GET", "/status", port=port).json
    assert set(body) == {"name", "fleet", "ready", "url", "grpc", "models"}
    assert (body["name"], body["fleet"], body["ready"]) == ("a", FLEET, True)
    assert (body["url"], body["grpc"]) == (f"http://127.0.0.1:{shared.port}", None)
    assert set(body["models"]["flights"]) == {
        "stable", "candidate", "percent", "mode", "serial", "since", "reason", "refused", "alarms",
        "untried", "trouble",
    }  # fmt: skip
    origin = {"Origin": "http://evil.example"}
    assert shared.ask("GET", "/status", headers=origin, port=port).status == 403
    rebound = {"Host": "evil.example"}
    assert shared.ask("GET", "/status", headers=rebound, port=port).status == 403
    for method, path in (("DELETE", "/status"), ("GET", "/reload"), ("POST", "/metrics")):
        assert shared.ask(method, path, port=port).status == 405
    for method, path in (("GET", "/status"), ("POST", "/reload")):
        assert shared.ask(method, path).status == 404


def test_a_reload_is_asked_for_at_the_admin_port_and_is_in_the_audit_log(
    shared: HostProcess,
) -> None:
    port, log = shared.admin_port, shared.state / "audit.jsonl"
    assert (
        shared.ask("POST", "/reload", headers={"Origin": "http://a.example"}, port=port).status
        == 403
    )
    asked = len(log.read_text().splitlines())
    answer = shared.ask("POST", "/reload", port=port)
    assert (answer.status, set(answer.json["models"])) == (200, {"flights"})
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events[asked:] == ["reload"]


def test_a_binary_or_compressed_request_gets_the_answer_of_the_plain_one(
    shared: HostProcess,
) -> None:
    document = row("DL", 31.5)
    expected = shared.infer(document).json["outputs"]
    path, plain = "/v2/models/flights/infer", json.dumps(document).encode()
    for coding, packed in (("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain))):
        answer = shared.ask("POST", path, packed, {"Content-Encoding": coding})
        assert (answer.status, answer.json["outputs"]) == (200, expected)
    document["inputs"][1].pop("data")
    document["inputs"][1]["parameters"] = {"binary_data_size": 4}
    document["outputs"] = [{"name": "probability", "parameters": {"binary_data": True}}]
    head = json.dumps(document).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    answer = shared.ask("POST", path, head + struct.pack("<f", 31.5), headers)
    length = int(answer.headers["Inference-Header-Content-Length"])
    output = json.loads(answer.body[:length])["outputs"][0]
    assert (output["shape"], output["parameters"]) == ([1], {"binary_data_size": 4})
    assert struct.unpack("<f", answer.body[length:])[0] == np.float32(expected[0]["data"][0])


def corpus() -> dict[str, tuple[int, dict[str, Any]]]:
    """Return what went wrong with other servers: name -> (status, keywords of `ask`)."""

    def delay(**changes: Any) -> bytes:
        document = row()
        item = {**document["inputs"][1], **changes}
        document["inputs"][1] = {key: value for key, value in item.items() if value is not ...}
        return json.dumps(document).encode()

    good = json.dumps(row()).encode()
    binary = (
        json.dumps(row())
        .encode()
        .replace(b'"data": [12.0]', b'"parameters": {"binary_data_size": 4}')
    )
    negative = binary.replace(b": 4}", b": -4}")
    deep = good.replace(b"[12.0]", b"[" * 100_000 + b"1" + b"]" * 100_000)
    octets = {"Content-Type": "application/octet-stream"}
    length = "Inference-Header-Content-Length"
    large = good.replace(b"[12.0]", b"[" + b"1," * 35_000_000 + b"1]")
    bomb = gzip.compress(bytes(20 << 20), 1)
    bodies: dict[str, tuple[int, bytes]] = {
        "shape and data differ": (400, delay(shape=[5])),
        "negative dimension": (400, delay(shape=[-1])),
        "overflowing dimensions": (400, delay(shape=[16, 2**60 + 2])),
        "no rows": (400, delay(shape=[0], data=[])),
        "unknown datatype": (400, delay(datatype="FP99")),
        "text as a number": (400, delay(data=["a"])),
        "NaN": (400, good.replace(b"12.0", b"NaN")),
        "1e999": (400, good.replace(b"12.0", b"1e999")),
        "ragged": (400, delay(data=[[1, 2], [3]])),
        "no data": (400, delay(data=...)),
        "no inputs": (400, b"{}"),
        "empty inputs": (400, b'{"inputs":[]}'),
        "inputs twice": (400, json.dumps({"inputs": row()["inputs"] * 2}).encode()),
        "wrong input": (400, delay(name="ZZ")),
        "unknown output": (400, json.dumps(row(outputs=[{"name": "nope"}])).encode()),
        "outputs twice": (400, json.dumps(row(outputs=[{"name": "probability"}] * 2)).encode()),
        "cut short": (400, b'{"inputs":['),
        "a list": (400, b"[]"),
        "empty": (400, b""),
        "200 levels": (400, good.replace(b"[12.0]", b"[" * 200 + b"1" + b"]" * 200)),
        "100,000 levels": (400, deep),
        "too many rows": (400, delay(shape=[257], data=[1.0] * 257)),
        "70 MB": (413, large),
    }
    cases = {name: (status, {"body": body}) for name, (status, body) in bodies.items()}
    json_type = {"Content-Type": "application/json"}
    infer = "/v2/models/flights/infer"
    return cases | {
        "header length too long": (400, {"body": good, "headers": {length: "99999999999"}}),
        "header length negative": (400, {"body": good, "headers": {length: "-1"}}),
        "header length no number": (400, {"body": good, "headers": {length: "abc"}}),
        "binary with a wrong header length": (
            400, {"body": binary + b"\0" * 4, "headers": octets | {length: "260"}}
        ),
        "binary cut short": (
            400, {"body": binary + b"\0" * 3, "headers": octets | {length: str(len(binary))}}
        ),
        "binary with bytes left over": (
            400, {"body": binary + b"\0" * 5, "headers": octets | {length: str(len(binary))}}
        ),
        "binary as JSON": (400, {"body": binary, "headers": json_type}),
        "binary size negative": (400, {"body": negative, "headers": json_type}),
        "unknown model": (404, {"body": good, "path": "/v2/models/nope/infer"}),
        "unknown version": (404, {"body": good, "path": "/v2/models/flights/versions/99/infer"}),
        "traversal": (404, {"body": good, "path": "/v2/models/..%2f..%2fetc/infer"}),
        "GET": (405, {"method": "GET", "path": infer}),
        "unload": (404, {"body": b"", "path": "/v2/repository/models/flights/unload"}),
        "pickle": (415, {"body": b"\x80\x04.", "headers": {"Content-Type": "application/pickle"}}),
        "form": (415, {"body": b"a=b", "headers": {"Content-Type": "multipart/form-data"}}),
        "broken gzip": (400, {"body": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip"}}),
        "no gzip": (400, {"body": good, "headers": {"Content-Encoding": "gzip"}}),
        "gzip of 20 MiB": (413, {"body": bomb, "headers": {"Content-Encoding": "gzip"}}),
        "unknown encoding": (415, {"body": good, "headers": {"Content-Encoding": "br"}}),
    }  # fmt: skip


CORPUS = corpus()


@pytest.mark.parametrize("case", CORPUS)
def test_a_malformed_request_gets_its_error_and_the_next_one_its_answer(
    shared: HostProcess, case: str
) -> None:
    status, request = CORPUS[case]
    asked = {"method": "POST", "path": "/v2/models/flights/infer", **request}
    answer = shared.ask(**asked)
    assert (answer.status, set(answer.json)) == (status, {"error", "code", "request_id"})
    assert not LEAKS.search(answer.json["error"])
    assert shared.infer().status == 200


def test_a_malformed_body_does_not_cost_the_connection(shared: HostProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=limit(10))
    headers = {"Content-Type": "application/json"}
    for body, status in ((b"{", 400), (json.dumps(row()).encode(), 200)) * 3:
        connection.request("POST", "/v2/models/flights/infer", body, headers)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, True)
    connection.close()


def talk(port: int, data: bytes, within_s: float = 10.0) -> bytes:
    """Send raw bytes and return everything that comes until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=limit(within_s)) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while part := client.recv(65_536):
            received += part
    return received


def test_pipelined_requests_are_answered_in_order(shared: HostProcess) -> None:
    bodies = [json.dumps(row("UA", float(n), id=str(n))).encode() for n in range(100)]
    head = b"POST /v2/models/flights/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
    received = talk(shared.port, b"".join(head % (len(body), body) for body in bodies))
    assert re.findall(rb'"id":"(\d+)"', received) == [b"%d" % n for n in range(100)]


def test_a_smuggled_request_is_never_answered(shared: HostProcess) -> None:
    smuggled = b"0\r\n\r\nGET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    received = talk(
        shared.port,
        b"POST /v2/models/flights/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%b" % (len(smuggled), smuggled),
    )
    assert re.findall(rb"HTTP/1\.1 (\d+)", received) == [b"400"]


def test_a_million_chunks_and_an_endless_body_cost_no_memory(shared: HostProcess) -> None:
    assert shared.process
    status = Path(f"/proc/{shared.process.pid}/status")

    def resident_kib() -> int:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1])  # type: ignore[index]

    shared.infer()
    before = resident_kib()
    head = (
        b"POST /v2/models/flights/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for body in (b"1\r\na\r\n" * 1_000_000, (b"100000\r\n" + b"a" * 2**20 + b"\r\n") * 40):
        with socket.create_connection(("127.0.0.1", shared.port), timeout=limit(10)) as client:
            client.sendall(head + body)
            assert client.recv(100).startswith(b"HTTP/1.1 413 ")
    assert resident_kib() - before < 40_000  # 16 MiB of one body, twice while it grows
    assert shared.infer().status == 200


def test_a_host_that_is_asked_slowly_still_answers_others(shared: HostProcess) -> None:
    slow = [socket.create_connection(("127.0.0.1", shared.port)) for _ in range(200)]
    try:
        for client in slow:
            client.sendall(b"POST /v2/models/flights/infer HTTP/1.1\r\nHo")
        assert shared.infer().status == 200
    finally:
        for client in slow:
            client.close()
