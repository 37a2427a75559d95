"""ModelInfer's messages: what is read of a request, what is refused, what an answer becomes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from slipway.bundle.datatypes import DTYPES
from slipway.host.request.binary import encode
from slipway.host.request.message import Answer, OutputData
from slipway.host.request.refusal import STATUS, RequestRefused
from slipway.host.wire.grpc.convert import FIELDS, read_message, render_answer
from slipway.host.wire.grpc.schema import message_class, parse
from slipway.host.wire.grpc.status import BY_HTTP, GRPC_STATUS, RETRIED, Status, error_metadata
from slipway.host.wire.metadata import make_config
from tests.grpc_host import DATATYPES, make_contract, make_request

Request = message_class("ModelInferRequest")
Response = message_class("ModelInferResponse")

EXTREMES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 2**8 - 1],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-(2**7), 2**7 - 1],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP32": [-0.0, 3.4028234663852886e38],
    "FP64": [5e-324, 1.7976931348623157e308],
    "BYTES": ["", "naïve \0 text"],
}


def typed(datatype: str, values: list[Any], field: str | None = None, **fields: Any) -> Any:
    sent = [value.encode() for value in values] if datatype == "BYTES" else values
    tensor = {"name": "x", "datatype": datatype, "shape": [len(values)]}
    contents = {field or FIELDS[datatype]: sent}
    return make_request(inputs=[{**tensor, "contents": contents}], raw_input_contents=[], **fields)


@pytest.mark.parametrize("datatype", EXTREMES)
def test_typed_contents_are_read_exactly(datatype: str) -> None:
    (item,) = read_message(typed(datatype, EXTREMES[datatype])).inputs
    assert isinstance(item.data, np.ndarray)
    assert (item.data.dtype, item.data.tolist()) == (DTYPES[datatype], EXTREMES[datatype])  # type: ignore[index]
    assert (item.name, item.datatype, item.shape) == ("x", datatype, (2,))


@pytest.mark.parametrize("datatype", EXTREMES)
def test_an_answer_comes_back_typed_or_raw_as_it_was_asked(datatype: str) -> None:
    values = np.array(EXTREMES[datatype], DTYPES[datatype])  # type: ignore[index]
    answer = Answer("m", "v" * 64, "7", (OutputData("y", datatype, values),))
    typed_response = Response.FromString(render_answer(answer, raw=False))
    contents = getattr(typed_response.outputs[0].contents, FIELDS[datatype])
    texts = [value.decode() for value in contents] if datatype == "BYTES" else list(contents)
    assert texts == EXTREMES[datatype]
    raw_response = Response.FromString(render_answer(answer, raw=True))
    assert list(raw_response.raw_output_contents) == [encode(values, datatype)]
    assert not raw_response.outputs[0].HasField("contents")
    for response in (typed_response, raw_response):
        assert (response.model_name, response.model_version, response.id) == ("m", "v" * 64, "7")
        assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == (datatype, [2])


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_come_back_raw_and_all_outputs_with_them(datatype: str) -> None:
    half = OutputData("h", datatype, np.array([1, 2], DTYPES[datatype]))  # type: ignore[index]
    single = OutputData("f", "FP32", np.array([1, 2], np.float32))
    response = Response.FromString(render_answer(Answer("m", "v", None, (single, half)), raw=False))
    assert [len(raw) for raw in response.raw_output_contents] == [8, 4]
    assert not any(output.HasField("contents") for output in response.outputs)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_contents_go_on_as_they_came(datatype: str) -> None:
    tensors = [{"name": name, "datatype": datatype, "shape": [3]} for name in ("x", "y")]
    message = read_message(make_request(inputs=tensors, raw_input_contents=[b"\1\2", b""]))
    assert [item.data for item in message.inputs] == [b"\1\2", b""]


def test_the_rest_of_a_request_is_read() -> None:
    message = read_message(
        make_request(
            id="7",
            outputs=[{"name": "b"}, {"name": "a"}],
            parameters={"timeout": {"int64_param": 5}, "priority": {"uint64_param": 1}, "k": {}},
        )
    )
    assert (message.id, message.outputs) == ("7", ("b", "a"))
    assert (message.timeout_us, message.priority) == (5, 1)
    assert read_message(make_request()).id is None


@pytest.mark.parametrize(
    ("given_us", "remaining_s", "expected_us"),
    [(0, None, 0), (5, None, 5), (0, 1.0, 1_000_000), (5, 1.0, 5), (9_000_000, 1.0, 1_000_000),
     (0, 0.0, 1)],
)  # fmt: skip
def test_a_deadline_is_a_timeout_if_it_is_the_shorter(
    given_us: int, remaining_s: float | None, expected_us: int
) -> None:
    request = make_request(parameters={"timeout": {"int64_param": given_us}})
    assert read_message(request, remaining_s).timeout_us == expected_us


def tensor(**fields: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 2], **fields}


SHARED = {"shared_memory_region": {"string_param": "r"}}

REFUSED: dict[str, Callable[[], Any]] = {
    "a raw entry too few": lambda: make_request(inputs=[tensor(), tensor(name="z")]),
    "a raw entry too many": lambda: make_request(raw_input_contents=[b"", b""]),
    "raw and typed": lambda: make_request(inputs=[tensor(contents={"fp32_contents": [1]})]),
    "raw and empty typed": lambda: make_request(inputs=[tensor(contents={})]),
    "a field of another type": lambda: typed("FP32", [1.0], "fp64_contents"),
    "an int64 in the wrong field": lambda: typed("INT64", [1], "int_contents"),
    "a bool in the wrong field": lambda: typed("BOOL", [1], "int_contents"),
    "FP16 typed": lambda: typed("FP16", [1.0], "fp32_contents"),
    "BF16 typed": lambda: typed("BF16", [1.0], "fp32_contents"),
    "a type that is none": lambda: typed("FP8", [1.0], "fp32_contents"),
    "no type": lambda: typed("", [1.0], "fp32_contents"),
    "INT8 too large": lambda: typed("INT8", [128]),
    "INT8 too small": lambda: typed("INT8", [-129]),
    "INT16 too large": lambda: typed("INT16", [2**15]),
    "UINT8 too large": lambda: typed("UINT8", [256]),
    "UINT16 too large": lambda: typed("UINT16", [2**16]),
    "text that is no UTF-8": lambda: make_request(
        inputs=[tensor(datatype="BYTES", contents={"bytes_contents": [b"\xff"]})],
        raw_input_contents=[],
    ),
    "a negative dimension": lambda: make_request(inputs=[tensor(shape=[-1, 2])]),
    "a name twice": lambda: make_request(inputs=[tensor()] * 2, raw_input_contents=[b"", b""]),
    "no name": lambda: make_request(inputs=[tensor(name="")]),
    "a long name": lambda: make_request(inputs=[tensor(name="x" * 257)]),
    "a long id": lambda: make_request(id="x" * 257),
    "an output twice": lambda: make_request(outputs=[{"name": "y"}] * 2),
    "an output without a name": lambda: make_request(outputs=[{}]),
    "too many inputs": lambda: make_request(inputs=[tensor()] * 1025),
    "too many outputs": lambda: make_request(outputs=[{"name": "y"}] * 1025),
    "shared memory in": lambda: make_request(inputs=[tensor(parameters=SHARED)]),
    "shared memory out": lambda: make_request(outputs=[{"name": "y", "parameters": SHARED}]),
    "classification": lambda: make_request(
        outputs=[{"name": "y", "parameters": {"classification": {"int64_param": 3}}}]
    ),
    "a sequence": lambda: make_request(parameters={"sequence_id": {"int64_param": 3}}),
    "a negative timeout": lambda: make_request(parameters={"timeout": {"int64_param": -1}}),
    "a timeout of text": lambda: make_request(parameters={"timeout": {"string_param": "1"}}),
    "a timeout of nothing": lambda: make_request(parameters={"timeout": {}}),
    "a fractional priority": lambda: make_request(parameters={"priority": {"double_param": 1.0}}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_half_right_is_refused(case: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        read_message(REFUSED[case]())
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize(
    "body", [b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x3b" * 200_000, b"\x0b" * 50]
)
def test_bytes_that_are_no_message_are_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse(Request, body)
    assert caught.value.message == "the message is no inference.ModelInferRequest"


def test_every_code_has_a_grpc_status() -> None:
    assert set(GRPC_STATUS) == set(STATUS)
    assert Status.OK not in GRPC_STATUS.values()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("bad_request", Status.INVALID_ARGUMENT),
        ("unauthenticated", Status.UNAUTHENTICATED),
        ("forbidden", Status.PERMISSION_DENIED),
        ("model_not_found", Status.NOT_FOUND),
        ("version_not_found", Status.NOT_FOUND),
        ("too_large", Status.RESOURCE_EXHAUSTED),
        ("rate_limited", Status.RESOURCE_EXHAUSTED),
        ("queue_full", Status.UNAVAILABLE),
        ("draining", Status.UNAVAILABLE),
        ("not_ready", Status.UNAVAILABLE),
        ("queue_timeout", Status.DEADLINE_EXCEEDED),
        ("client_too_slow", Status.DEADLINE_EXCEEDED),
        ("model_failed", Status.INTERNAL),
        ("non_finite_output", Status.INTERNAL),
    ],
)
def test_the_published_table_is_kept(code: str, status: Status) -> None:
    assert GRPC_STATUS[code] == status


def test_retry_after_is_said_where_asking_again_can_help() -> None:
    assert {429, 503} == RETRIED
    assert set(BY_HTTP) > RETRIED
    assert error_metadata(RequestRefused("rate_limited", "", 7)) == (
        ("slipway-code", "rate_limited"),
        ("retry-after", "7"),
    )
    assert error_metadata(RequestRefused("model_failed", ""), "v") == (
        ("slipway-code", "model_failed"),
        ("slipway-version", "v"),
    )


def test_a_model_is_configured_as_tritons_clients_read_it() -> None:
    config = message_class("ModelConfig")(**make_config("m", make_contract(a="BYTES", b="BF16")))
    assert (config.max_batch_size, config.platform) == (1000, "onnxruntime_onnx")
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [
        ("a", 13, [2]),
        ("b", 14, [2]),
    ]


def test_a_model_of_single_values_is_configured_without_batching() -> None:
    contract = make_contract(a="FP32")
    flat = contract.inputs[0].model_copy(update={"shape": [-1]})
    config = make_config("m", contract.model_copy(update={"inputs": [flat]}))
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [-1])
