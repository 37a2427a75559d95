"""The binary tensor extension, packed bodies and the parameters of a request, over HTTP."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from slipway.host.engine.job import Job
from slipway.host.wire.http.exchange import Limits
from tests.paper_host import PaperHost, make_contract, request

LIMIT = 1 << 20

X = np.array([[1, 2]], np.float32).tobytes()
Z = np.array([[3, 4]], np.float32).tobytes()


@pytest.fixture(scope="module")
def host() -> Iterator[PaperHost]:
    """Serve models of one and of two inputs, one that is fixed and one of text."""
    host = PaperHost(
        make_contract("m", x="FP32"),
        make_contract("two", x="FP32", z="FP32"),
        make_contract("fixed", [3], x="INT16"),
        make_contract("text", [-1], x="BYTES"),
        make_contract("free", [-1, -1], x="FP32"),
        make_contract("freer", [-1, -1, -1], x="FP32"),
        make_contract("flag", x="BOOL"),
        limits=Limits(body_bytes=LIMIT),
    )
    yield host
    host.close()


def tensor(size: Any = 8, name: str = "x", **changes: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": size}
    return {"name": name, "shape": [1, 2], "datatype": "FP32", "parameters": parameters, **changes}


def ask(host: PaperHost, document: Any, data: bytes = b"", **changes: Any) -> tuple[int, Any]:
    """Send JSON and the bytes behind it; return the status and the answer as it is written."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    length = changes.pop("length", len(text))
    model = changes.pop("model", "m")
    asked = {"body": text + data, "header_length": length, "path": f"/v2/models/{model}/infer"}
    status, headers, body = host.ask(**asked, **changes)
    if status == 200 and "inference-header-content-length" in headers:
        at = int(headers["inference-header-content-length"])
        assert headers["content-type"] == "application/octet-stream"
        return status, (json.loads(body[:at]), body[at:])
    assert headers["content-type"] == "application/json"
    return status, json.loads(body)


def test_a_binary_tensor_is_answered_in_json_unless_bytes_are_wanted(host: PaperHost) -> None:
    status, answer = ask(host, {"inputs": [tensor()]}, X)
    assert (status, answer["outputs"][0]["data"]) == (200, [1.0, 2.0])


@pytest.mark.parametrize("everything", [None, False, True])
@pytest.mark.parametrize("x", [None, False, True])
@pytest.mark.parametrize("z", [None, False, True])
def test_each_output_comes_in_the_form_that_is_wanted_of_it(
    host: PaperHost, everything: bool | None, x: bool | None, z: bool | None
) -> None:
    def wanted(name: str, binary: bool | None) -> dict[str, Any]:
        return {"name": name} | ({} if binary is None else {"parameters": {"binary_data": binary}})

    document: dict[str, Any] = {
        "inputs": [tensor(name="z"), tensor()],
        "outputs": [wanted("y_x", x), wanted("y_z", z)],
    }
    if everything is not None:
        document["parameters"] = {"binary_data_output": everything}
    for _ in range(3):
        _, answer = ask(host, document, Z + X, model="two")
        text, data = answer if isinstance(answer, tuple) else (answer, b"")
        expected = b""
        for output, binary, values in zip(text["outputs"], (x, z), (X, Z), strict=True):
            as_bytes = bool(everything) if binary is None else binary
            assert ("data" in output) != as_bytes
            assert output.get("parameters") == ({"binary_data_size": 8} if as_bytes else None)
            expected += values if as_bytes else b""
        assert data == expected


def test_json_and_bytes_may_be_mixed(host: PaperHost) -> None:
    plain = {"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [3, 4]}
    for inputs in ([plain, tensor()], [tensor(), plain]):
        status, answer = ask(host, {"inputs": inputs}, X, model="two")
        assert status == 200
        assert [output["data"] for output in answer["outputs"]] == [[1, 2], [3, 4]]


def test_an_answer_in_bytes_to_a_request_in_json(host: PaperHost) -> None:
    item = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    document = {"inputs": [item], "parameters": {"binary_data_output": True}}
    for _ in range(3):
        for length in (None, len(json.dumps(document))):
            status, (text, data) = ask(host, document, length=length)
            assert (status, data) == (200, X)
            assert "data" not in text["outputs"][0]


TEXT = json.dumps({"inputs": [tensor()]}).encode()
REFUSED: dict[str, Any] = {
    "a byte too few": {"data": X[:-1]},
    "a byte too many": {"data": X + b"\0"},
    "nothing": {"data": b""},
    "a length beyond the body": {"data": X, "length": len(TEXT) + 9},
    "a length far beyond the body": {"data": X, "length": 9_999_999_999},
    "a length that cuts the JSON": {"data": X, "length": len(TEXT) - 1},
    "a length that takes a byte along": {"data": X, "length": len(TEXT) + 1},
    "no length": {"data": X, "length": None},
    "no length and no bytes": {"length": None},
    "data and bytes": {"document": {"inputs": [tensor(data=[1, 2])]}, "data": X},
    "a negative size": {"document": {"inputs": [tensor(-8)]}, "data": X},
    "a size in words": {"document": {"inputs": [tensor("8")]}, "data": X},
    "a size of true": {"document": {"inputs": [tensor(True)]}, "data": b"\0"},
    "a size of 8.0": {"document": {"inputs": [tensor(8.0)]}, "data": X},
    "a size beyond 64 bits": {"document": {"inputs": [tensor(2**70)]}, "data": X},
    "a size that is another shape's": {"document": {"inputs": [tensor(4)]}, "data": X[:4]},
    "a shape that is another size's": {"document": {"inputs": [tensor(shape=[2, 2])]}, "data": X},
    "two sizes that overlap": {
        "document": {"inputs": [tensor(), tensor(name="z")]}, "data": X, "model": "two",
    },
    "a boolean of two": {
        "document": {"inputs": [tensor(2, datatype="BOOL")]}, "data": b"\1\2", "model": "flag",
    },
    "shared memory": {
        "document": {"inputs": [tensor(parameters={"shared_memory_region": "r"})]},
    },
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bytes_and_sizes_that_differ_are_refused(host: PaperHost, case: str) -> None:
    fields = {"document": TEXT, "data": b"", **REFUSED[case]}
    for _ in range(2):
        assert ask(host, TEXT, X)[0] == 200
        status, answer = ask(host, **fields)
        assert (status, answer["code"]) == (400, "bad_request")


@pytest.mark.parametrize("length", ["+5", "0x5", "-1", "", " ", "1e1", "٣", "5 5", "99999999999"])
def test_a_length_that_is_no_number_is_refused(host: PaperHost, length: str) -> None:
    header = "Inference-Header-Content-Length: " + length.encode().decode("latin-1")
    assert host.ask(TEXT + X, headers=[header])[0] == 400


def test_a_length_given_twice_is_refused(host: PaperHost) -> None:
    header = f"Inference-Header-Content-Length: {len(TEXT)}"
    assert host.ask(TEXT + X, headers=[header, header])[0] == 400


RAW = {
    "one row": ("m", X, [1, 2], X),
    "a fixed shape": ("fixed", bytes(6), [3], bytes(6)),
    "text": ("text", b"ab]\xc3\xa9", [1], b"\5\0\0\0ab]\xc3\xa9"),
    "no text": ("text", b"", [1], b"\0\0\0\0"),
    "any length": ("free", X + Z, [1, 4], X + Z),
}


@pytest.mark.parametrize("case", RAW)
def test_a_raw_body_is_the_one_input_of_one_row(host: PaperHost, case: str) -> None:
    model, data, shape, expected = RAW[case]
    for media in ("application/octet-stream", "application/json"):
        headers = [f"Content-Type: {media}"]
        status, (text, back) = ask(host, b"", data, length=0, model=model, headers=headers)
        assert (status, text["outputs"][0]["shape"], back) == (200, shape, expected)


@pytest.mark.parametrize(
    ("model", "data"),
    [("two", X + Z), ("freer", X), ("m", X[:-1]), ("m", X + X), ("m", b""), ("free", b""),
     ("free", X[:-1]), ("text", b"\xff"), ("flag", b"\2\0"), ("fixed", bytes(5))],
)  # fmt: skip
def test_a_raw_body_that_fits_no_shape_is_refused(host: PaperHost, model: str, data: bytes) -> None:
    assert ask(host, b"", data, length=0, model=model)[0] == 400


# --- packed bodies

PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "GZip": gzip.compress}


def ask_packed(host: PaperHost, coding: str, packed: bytes, length: int | None = None) -> int:
    return host.ask(packed, length, headers=[f"Content-Encoding: {coding}"])[0]


@pytest.mark.parametrize("coding", PACK)
def test_a_packed_body_means_what_is_in_it(host: PaperHost, coding: str) -> None:
    document = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    for _ in range(3):
        assert ask_packed(host, coding, PACK[coding](json.dumps(document).encode())) == 200
        assert ask_packed(host, coding, PACK[coding](TEXT + X), len(TEXT)) == 200
    assert ask_packed(host, "identity", TEXT + X, len(TEXT)) == 200


@cache
def zeros(pack: Callable[[bytes], bytes]) -> bytes:
    """Pack far more zeros than a body may have; half a second each."""
    return pack(bytes(200 * LIMIT))


@pytest.mark.parametrize("coding", PACK)
def test_a_body_that_unpacks_to_a_thousand_times_its_size_is_refused_in_little_memory(
    host: PaperHost, coding: str
) -> None:
    bomb = zeros(PACK[coding])
    assert len(bomb) * 1000 < 201 * LIMIT
    tracemalloc.start()
    try:
        assert ask_packed(host, coding, bomb) == 413
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * LIMIT


@pytest.mark.parametrize("coding", PACK)
def test_a_body_may_unpack_to_the_limit_and_no_further(host: PaperHost, coding: str) -> None:
    assert ask_packed(host, coding, PACK[coding](TEXT + X + b" " * 9), len(TEXT)) == 400
    document = TEXT.replace(b'"parameters": {"binary_data_size": 8}', b'"data": [1,2]')
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
        packed = PACK[coding](document + b" " * (size - len(document)))
        assert ask_packed(host, coding, packed) == status


@pytest.mark.parametrize("coding", PACK)
def test_a_damaged_or_continued_stream_is_refused(host: PaperHost, coding: str) -> None:
    good = PACK[coding](TEXT + X)
    broken = bytearray(good)
    broken[-3] ^= 1  # in the check sum
    other = zlib.compress if coding != "deflate" else gzip.compress
    for packed in (
        b"", good[:1], good[:-1], good + b"\0", good + good, bytes(broken), TEXT + X, b"\x1f\x8b",
        other(TEXT + X), zlib.compress(TEXT + X)[2:-4],
    ):  # fmt: skip
        assert ask_packed(host, coding, packed, len(TEXT)) == 400
    assert ask_packed(host, coding, good, len(TEXT)) == 200


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "compress", "zstd", "gzip, identity", ""])
def test_an_unknown_packing_is_refused(host: PaperHost, coding: str) -> None:
    assert ask_packed(host, coding, gzip.compress(TEXT + X), len(TEXT)) == 415


# --- parameters of a request


def asked_jobs(host: PaperHost, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Look at the jobs that reach the engine."""
    jobs: list[Job] = []
    stable = host.core.models["m"].stable
    assert stable
    submit = stable.engine.submit

    def note(job: Job) -> None:
        jobs.append(job)
        submit(job)

    monkeypatch.setattr(stable.engine, "submit", note)
    return jobs


def test_timeout_and_priority_reach_the_engine_the_first_time_and_after(
    host: PaperHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = asked_jobs(host, monkeypatch)
    for priority in (0, 1, 2, 2**64 - 1):
        for timeout in (0, 2_000_000, 2**64 - 1):
            parameters = {"timeout": timeout, "priority": priority}
            for _ in range(3):
                assert ask(host, {"inputs": [tensor()], "parameters": parameters}, X)[0] == 200
                job = jobs.pop()
                assert job.high == (priority == 1)
                wait_s = job.deadline - job.arrived
                assert wait_s == pytest.approx(timeout * 1e-6 if timeout else float("inf"))


def test_a_request_that_is_too_late_is_refused_and_never_run(host: PaperHost) -> None:
    document = {"inputs": [tensor()], "parameters": {"timeout": 1}}
    for _ in range(3):
        status, answer = ask(host, document, X)
        assert (status, answer["code"]) == (504, "queue_timeout")


@pytest.mark.parametrize(
    "parameters",
    [{"sequence_id": 1}, {"sequence_start": True}, {"sequence_end": False}, {"sequence_": "a"},
     {"timeout": -1}, {"timeout": 1.5}, {"timeout": "1"}, {"timeout": True}, {"timeout": 2**64},
     {"priority": -1}, {"priority": 1.0}, {"priority": "high"}, {"binary_data_output": 1},
     {"binary_data_output": "true"}, {"a": None}, {"a": []}, {"a": {}}],
)  # fmt: skip
def test_a_parameter_that_cannot_be_meant_is_refused(host: PaperHost, parameters: Any) -> None:
    assert ask(host, {"inputs": [tensor()], "parameters": parameters}, X)[0] == 400


def test_whatever_a_request_is_cut_into_its_bytes_stay_in_place(host: PaperHost) -> None:
    text = json.dumps({"inputs": [tensor()], "parameters": {"binary_data_output": True}}).encode()
    raw = request(text + X, len(text))
    whole = host.talk(raw)
    for size in (1, 2, 3, 5, 8, 64):
        for _ in range(2):
            assert host.talk(*(raw[n : n + size] for n in range(0, len(raw), size))) == whole
    assert whole[0].endswith(X)
