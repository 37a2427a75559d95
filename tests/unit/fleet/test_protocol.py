import json

import numpy as np
import pytest

from slipway.bundle import request
from slipway.bundle.contract import Contract
from slipway.bundle.datatypes import DTYPES, bf16_to_float
from slipway.bundle.request import needs_binary, write_request
from slipway.fleet.client import read_answer
from slipway.fleet.protocol import read_response
from slipway.host.request.message import Answer, OutputData
from slipway.host.wire.http.v2 import AnswerFormat, read_message, render_answer
from tests.support.contracts import make_contract, make_input, make_output
from tests.tensors import random_tensor

V = "c" * 64


def contract(datatype: str) -> Contract:
    tensor = (datatype, [-1, -1])
    return make_contract([make_input("x", *tensor)], [make_output("y", *tensor)], max_rows=8)


def values_of(datatype: str, seed: int = 0) -> np.ndarray:
    values = random_tensor(np.random.default_rng(seed), datatype, (3, 2))
    return values.astype(object) if datatype == "BYTES" else values


BOTH = [(d, binary) for d in DTYPES for binary in (False, True) if binary or d != "BF16"]


@pytest.mark.parametrize(("datatype", "binary"), BOTH)
def test_a_host_reads_every_datatype_as_it_was_in_the_golden_set(datatype, binary):
    values = values_of(datatype)
    body = write_request({"x": values}, contract(datatype), binary)
    message, form = read_message(body.data, body.json_bytes)
    (sent,) = message.inputs
    assert (sent.datatype, sent.shape) == (datatype, (3, 2))
    assert form.wants("y") == binary
    if binary:
        from slipway.host.request.binary import decode

        read = decode(sent.data, datatype, 6)
    else:
        read = np.array(sent.data, DTYPES[datatype])
    np.testing.assert_array_equal(read.reshape(3, 2), values)


@pytest.mark.parametrize(("datatype", "binary"), [*BOTH, ("BF16", False)])
def test_an_answer_of_every_datatype_is_read_to_the_bit(datatype, binary):
    values = values_of(datatype)
    answer = Answer("m", V, None, (OutputData("y", datatype, values),))
    content, length = render_answer(answer, AnswerFormat(binary))
    version, outputs = read_response(content, length)
    assert version == V
    expected = bf16_to_float(values) if datatype == "BF16" else values
    assert outputs["y"].dtype == expected.dtype
    np.testing.assert_array_equal(outputs["y"], expected)


def test_several_outputs_lie_one_after_the_other_text_and_numbers():
    outputs = [OutputData(d, d, values_of(d, 3)) for d in ("BYTES", "FP16", "INT8")]
    content, length = render_answer(Answer("m", V, None, tuple(outputs)), AnswerFormat(True))
    _, read = read_response(content, length)
    for each in outputs:
        np.testing.assert_array_equal(read[each.name], each.values)


def test_halves_and_large_tensors_go_as_bytes_all_else_as_callers_write_it(monkeypatch):
    assert [d for d in DTYPES if needs_binary(contract(d), 10)] == ["FP16", "BF16"]
    assert needs_binary(contract("FP32"), request.JSON_VALUES_MAX + 1)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT8", [0.5, 1]),
        ("INT8", [300, 1]),
        ("UINT8", [-1, 1]),
        ("INT64", [True, False]),
        ("BOOL", [1, 0]),
        ("BYTES", [1, 2]),
        ("BYTES", [None, "a"]),
        ("INT64", [2**70, 1]),
        ("COMPLEX", [1, 2]),
        ("FP32", [1.0]),
        ("FP32", "ab"),
        ("FP32", ["1.5", "2"]),
        ("FP64", [True, False]),
        ("FP32", [10**400, 1]),
        ("BF16", [10**400, 1]),
    ],
)
def test_values_that_a_datatype_does_not_hold_are_no_answer(datatype, data):
    read = read_answer(200, answer([OUTPUT | {"datatype": datatype, "data": data}]), 1.0)
    assert read.error == "HTTP 200 with a body that is no V2 response"


@pytest.mark.parametrize(
    "shape",
    [[-1], [2.0], ["2"], [True, 2], [1 << 70, 2], [0, 1 << 62], "2", {"2": 2}, None, 2],
)
def test_what_is_no_shape_is_no_answer(shape):
    read = read_answer(200, answer([OUTPUT | {"shape": shape}]), 1.0)
    assert read.error == "HTTP 200 with a body that is no V2 response"


def test_text_goes_as_long_as_it_is():
    body = write_request({"x": np.array([["\u8a9e" * 1000]], object)}, contract("BYTES"), False)
    assert len(body.data) < 3200
    assert read_message(body.data, None)[0].inputs[0].data == ["\u8a9e" * 1000]


@pytest.mark.parametrize(
    ("size", "tail", "length"),
    [
        (8, b"\0" * 7, None),
        (8, b"\0" * 9, None),
        (4, b"\0" * 4, None),
        (8, b"\0" * 8, "x"),
        (-8, b"", None),
    ],
)
def test_bytes_that_are_no_whole_tensors_are_no_answer(size, tail, length):
    item = {"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": size}}
    text = answer([item])
    read = read_answer(200, text + tail, 1.0, length or str(len(text)))
    assert read.error == "HTTP 200 with a body that is no V2 response"


def test_a_number_that_is_not_finite_is_an_error_in_bytes_too():
    item = {"name": "y", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
    text = answer([item])
    read = read_answer(200, text + np.float32("nan").tobytes(), 1.0, str(len(text)))
    assert read.error == "an answer that is not a finite number"


def answer(outputs, version=V):
    return json.dumps({"model_name": "m", "model_version": version, "outputs": outputs}).encode()


OUTPUT = {"name": "probability", "datatype": "FP32", "shape": [2], "data": [0.25, 1]}


def test_a_v2_response_is_read_with_its_version():
    read = read_answer(200, answer([OUTPUT]), 3.5)
    assert (read.version, read.latency_ms, read.error) == (V, 3.5, None)
    np.testing.assert_array_equal(read.outputs["probability"], [0.25, 1.0])


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (503, b'{"error": "draining"}', "HTTP 503: draining"),
        (500, b"oops", "HTTP 500 with a body that is no V2 response"),
        (500, b'{"detail": "x"}', "no V2 response"),
        (500, b"[1]", "no V2 response"),
        (200, b"", "no V2 response"),
        (200, b'{"outputs": []}', "no V2 response"),
        (200, b'{"model_version": "x", "outputs": [{"name": "p"}]}', "no V2 response"),
        (200, b'{"model_version": "x", "outputs": 3}', "no V2 response"),
        (200, answer([OUTPUT | {"data": ["a", "b"]}]), "no V2 response"),
        (200, answer([OUTPUT | {"data": [[1.0], [1.0, 2.0]]}]), "no V2 response"),
        (200, answer([OUTPUT | {"data": [0.5, float("nan")]}]), "not a finite number"),
        (200, answer([OUTPUT | {"data": [0.5, None]}]), "not a finite number"),
        (200, answer([OUTPUT | {"data": [1e999, 0.5]}]), "not a finite number"),
        (200, b"[" * 100_000, "no V2 response"),
    ],
)
def test_whatever_else_a_host_says_is_an_error_and_never_an_exception(status, content, error):
    read = read_answer(status, content, 1.0)
    assert read.version is None
    assert read.error is not None
    assert error in read.error
    assert read.outputs == {}


def test_an_error_of_a_host_is_cut_to_a_length_that_people_read():
    read = read_answer(500, json.dumps({"error": "x" * 10_000}).encode(), 1.0)
    assert len(read.error) < 400
