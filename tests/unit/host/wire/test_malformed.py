"""The classic malformed requests, on which other hosts crash, hang or answer nonsense.

31 of them, with the good ones among them: 4xx and `{"error": ...}` where it is malformed, 200
where it is not. KServe and MLServer answer 2 of the 31 right.
"""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.paper_host import SocketHost, make_contract
from tests.support.pace import limit, within

INFER = "/v2/models/m/infer"


@pytest.fixture(scope="module")
def host() -> Iterator[SocketHost]:
    """Serve one model on real sockets."""
    host = SocketHost(make_contract(shape=(-1, 4), X="FP32"))
    yield host
    host.close()
    assert host.problems == []


def item(**changes: Any) -> dict[str, Any]:
    good = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    return {"inputs": [{**good, **changes}]}


def nested(levels: int) -> bytes:
    start = b'{"inputs":[{"name":"X","shape":[1],"datatype":"FP32","data":'
    return start + b"[" * levels + b"1" + b"]" * levels + b"}]}"


BINARY = json.dumps(
    {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32",
                 "parameters": {"binary_data_size": 16}}]}
).encode()  # fmt: skip
NEGATIVE = BINARY.replace(b"16", b"-16")
INFINITE = b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[1e999,1,2,3]}]}'
LARGE = b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[%b1]}]}' % (
    b"1," * 35_000_000
)


def binary(text: bytes, data: bytes) -> dict[str, Any]:
    headers = {"Inference-Header-Content-Length": str(len(text)),
               "Content-Type": "application/octet-stream"}  # fmt: skip
    return {"body": text + data, "headers": headers}


def length(value: str) -> dict[str, Any]:
    return {"body": item(), "headers": {"Inference-Header-Content-Length": value}}


OTHER_NAME = {"inputs": [{**item()["inputs"][0], "name": "ZZ"}]}
OUTPUT_TWICE = {**item(), "outputs": [{"name": "y_X"}, {"name": "y_X"}]}

CLASSICS: dict[str, tuple[int, dict[str, Any]]] = {
    "good": (200, {"body": item()}),
    "an id": (200, {"body": {**item(), "id": "abc"}}),
    "shape and data differ": (400, {"body": item(shape=[1, 5])}),
    "negative dimension": (400, {"body": item(shape=[1, -4])}),
    "dimensions that overflow": (400, {"body": item(shape=[16, 2**60 + 2])}),
    "a dimension of 0": (400, {"body": item(shape=[0, 4], data=[])}),
    "unknown datatype": (400, {"body": item(datatype="FP99")}),
    "strings in FP32": (400, {"body": item(data=["a", "b", "c", "d"])}),
    "null in a tensor": (400, {"body": item(data=[None] * 4)}),
    "NaN": (400, {"body": json.dumps(item(data=[float("nan"), 1, 2, 3])).encode()}),
    "1e999": (400, {"body": INFINITE}),
    "ragged": (400, {"body": item(data=[[1, 2], [3]])}),
    "no data": (400, {"body": {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32"}]}}),
    "no inputs": (400, {"body": {}}),
    "empty inputs": (400, {"body": {"inputs": []}}),
    "an input twice": (400, {"body": {"inputs": item()["inputs"] * 2}}),
    "another input": (400, {"body": OTHER_NAME}),
    "unknown output": (400, {"body": {**item(), "outputs": [{"name": "nope"}]}}),
    "an output twice": (400, {"body": OUTPUT_TWICE}),
    "cut JSON": (400, {"body": b'{"inputs":['}),
    "a JSON array": (400, {"body": b"[]"}),
    "an empty body": (400, {"body": b""}),
    "200 levels": (400, {"body": nested(200)}),
    "100,000 levels": (400, {"body": nested(100_000)}),
    "a length out of range": (400, length("99999999999")),
    "a negative length": (400, length("-1")),
    "a length that is no number": (400, length("abc")),
    "good binary": (200, binary(BINARY, bytes(16))),
    "short binary": (400, binary(BINARY, bytes(8))),
    "long binary": (400, binary(BINARY, bytes(24))),
    "a negative size": (400, binary(NEGATIVE, bytes(16))),
}

MORE: dict[str, tuple[int, dict[str, Any]]] = {
    "unknown model": (404, {"body": item(), "path": "/v2/models/nope/infer"}),
    "unknown version": (404, {"body": item(), "path": "/v2/models/m/versions/99/infer"}),
    "a name that climbs": (404, {"body": item(), "path": "/v2/models/..%2f..%2fetc/infer"}),
    "GET": (405, {"method": "GET"}),
    "unloading": (404, {"body": b"", "path": "/v2/repository/models/m/unload"}),
    "readiness": (200, {"method": "GET", "path": "/v2/models/m/ready"}),
    "70 MB": (413, {"body": LARGE}),
}


def ask(
    host: SocketHost, body: Any = None, path: str = INFER, method: str = "POST",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:  # fmt: skip
    raw = json.dumps(body).encode() if isinstance(body, dict) else body
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=limit(10))
    try:
        try:
            headers = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, raw, headers)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent; the answer is there
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_there_are_31_classics() -> None:
    assert len(CLASSICS) == 31


@pytest.mark.parametrize("case", CLASSICS | MORE)
def test_the_classics_are_answered_right_and_the_host_lives_on(host: SocketHost, case: str) -> None:
    status, asked = (CLASSICS | MORE)[case]
    with within(2):
        actual, answer = ask(host, **asked)
    assert actual == status
    document = json.loads(answer)
    if status == 200:
        assert "error" not in document
    else:
        assert isinstance(document["error"], str)
        assert document["error"].isascii()
    assert ask(host, item())[0] == 200


@pytest.mark.parametrize("case", CLASSICS)
def test_the_classics_are_answered_alike_by_a_host_that_has_seen_them(
    host: SocketHost, case: str
) -> None:
    status, asked = CLASSICS[case]
    assert [ask(host, **asked)[0] for _ in range(3)] == [status] * 3
