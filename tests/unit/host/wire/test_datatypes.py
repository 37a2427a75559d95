"""A tensor means the same bits whatever encoding brings it, and is answered with the same bits."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from slipway.bundle.datatypes import DTYPES, FLOATS, bf16_to_float
from slipway.host.engine.checks import make_admission
from slipway.host.request.admission import prepare
from slipway.host.request.binary import decode, encode
from slipway.host.request.message import Answer, InputData, Message, OutputData
from slipway.host.request.refusal import RequestRefused
from slipway.host.wire.grpc import convert
from slipway.host.wire.grpc.schema import message_class
from slipway.host.wire.http.v2 import AnswerFormat, read_message, render_answer
from tests.paper_host import make_contract

TENSORS = 10_000
WIDTH = 4

ModelInferRequest = message_class("ModelInferRequest")
ModelInferResponse = message_class("ModelInferResponse")

SPECIAL = {
    "FP16": np.array([-0.0, 2**-24, -(2**-24), 2**-14, 65504, -65504], np.float16),
    "FP32": np.array([-0.0, 1e-45, -1e-45, 2**-126, np.finfo("f4").max, np.finfo("f4").min, 0.1]),
    "FP64": np.array([-0.0, 5e-324, -5e-324, 2**-1022, *np.array([1, -1]) * np.finfo("f8").max]),
    "BF16": np.array([0x8000, 0x0001, 0x8001, 0x0080, 0x7F7F, 0xFF7F], np.uint16),
    "BOOL": np.array([False, True]),
    "BYTES": np.array(
        ["", "\0", "é", "日本", "\U0001f6e9", '"]', "\\", "\r\n", "x" * 300, "\u2028"], object
    ),
}  # fmt: skip


def make_tensors(datatype: str) -> np.ndarray[Any, Any]:
    """Return tensors of any bits that are finite, special values first."""
    random = np.random.default_rng(list(datatype.encode()))
    dtype = DTYPES[datatype]  # type: ignore[index]
    shape = (TENSORS, WIDTH)
    if datatype == "BYTES":
        values = random.choice(SPECIAL["BYTES"], shape)
    elif datatype == "BOOL":
        values = random.random(shape) < 0.5
    else:
        raw = random.integers(0, 256, TENSORS * WIDTH * dtype.itemsize, np.uint8)
        values = raw.view(dtype).reshape(shape).copy()
    special = SPECIAL.get(datatype)
    if special is None:
        limits = np.iinfo(dtype)
        special = np.array([limits.min, limits.max, 0, 1], dtype)
    flat = values.reshape(-1)
    flat[: len(special)] = special.astype(dtype)
    if datatype in FLOATS:
        flat[~np.isfinite(as_float(flat, datatype))] = flat[0]
    return values


def as_float(values: np.ndarray[Any, Any], datatype: str) -> np.ndarray[Any, Any]:
    return bf16_to_float(values) if datatype == "BF16" else values


def contract(datatype: str, max_rows: int = TENSORS) -> Any:
    return make_contract(shape=(-1, WIDTH), max_rows=max_rows, x=datatype)


def to_tensor(message: Message, datatype: str) -> np.ndarray[Any, Any]:
    return prepare(message, contract(datatype)).inputs["x"]


def as_json(values: np.ndarray[Any, Any], datatype: str) -> Any:
    """Return values as a client that knows only JSON writes them."""
    if datatype == "BF16":
        values = bf16_to_float(values)
    return values.astype(np.float64).tolist() if datatype in FLOATS else values.tolist()


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], datatype: str) -> None:
    assert one.shape == other.shape
    if datatype == "BYTES":
        assert one.tolist() == other.tolist()
    else:
        assert one.dtype == other.dtype == DTYPES[datatype]  # type: ignore[index]
        assert one.tobytes() == other.tobytes()


def read_json(values: Any, datatype: str, nested: bool = True) -> Message:
    data = as_json(values if nested else values.reshape(-1), datatype)
    item = {"name": "x", "datatype": datatype, "shape": values.shape, "data": data}
    message, _ = read_message(json.dumps({"inputs": [item]}).encode())
    return message


def read_binary(values: Any, datatype: str, shape: Any = None) -> Message:
    data = values if isinstance(values, bytes) else encode(values, datatype)
    item = {"name": "x", "datatype": datatype, "shape": shape or values.shape,
            "parameters": {"binary_data_size": len(data)}}  # fmt: skip
    text = json.dumps({"inputs": [item]}).encode()
    message, _ = read_message(text + data, len(text))
    return message


def read_grpc(values: Any, datatype: str, raw: bool) -> Message:
    tensor: dict[str, Any] = {"name": "x", "datatype": datatype, "shape": values.shape}
    flat = values.reshape(-1)
    if raw:
        request = ModelInferRequest(inputs=[tensor], raw_input_contents=[encode(values, datatype)])
    else:
        elements = [t.encode() for t in flat] if datatype == "BYTES" else flat.tolist()
        tensor["contents"] = {convert.FIELDS[datatype]: elements}
        request = ModelInferRequest(inputs=[tensor])
    return convert.read_message(ModelInferRequest.FromString(request.SerializeToString()))


@pytest.mark.parametrize("datatype", DTYPES)
def test_ten_thousand_tensors_have_the_same_bits_in_every_encoding(datatype: str) -> None:
    values = make_tensors(datatype)
    messages = [
        read_json(values, datatype),
        read_json(values, datatype, nested=False),
        read_binary(values, datatype),
        read_grpc(values, datatype, raw=True),
    ]
    if datatype in convert.FIELDS:
        messages.append(read_grpc(values, datatype, raw=False))
    for message in messages:
        same(to_tensor(message, datatype), values, datatype)


@pytest.mark.parametrize("datatype", DTYPES)
def test_ten_thousand_answers_come_back_with_the_same_bits_in_every_encoding(datatype: str) -> None:
    values = make_tensors(datatype)
    answer = Answer("m", "v", None, (OutputData("y", datatype, values),))
    for back in (*from_rest(answer), *from_grpc(answer)):
        same(back.reshape(values.shape), values, datatype)


def from_rest(answer: Answer) -> Iterator[np.ndarray[Any, Any]]:
    """Read an answer back, from JSON and from binary, as a client does."""
    datatype, shape = answer.outputs[0].datatype, answer.outputs[0].values.shape
    text, header_length = render_answer(answer)
    assert header_length is None
    item = json.loads(text, parse_constant=pytest.fail)["outputs"][0]
    assert (item["datatype"], item["shape"]) == (datatype, list(shape))
    assert not isinstance(item["data"][0], list)
    yield to_tensor(read_json_item(item), datatype)
    text, header_length = render_answer(answer, AnswerFormat(binary=True))
    assert header_length is not None
    item = json.loads(text[:header_length])["outputs"][0]
    assert item["parameters"]["binary_data_size"] == len(text) - header_length
    assert "data" not in item
    yield decode(text[header_length:], datatype, int(np.prod(shape)))  # type: ignore[arg-type]


def read_json_item(item: dict[str, Any]) -> Message:
    message, _ = read_message(json.dumps({"inputs": [{**item, "name": "x"}]}).encode())
    return message


def from_grpc(answer: Answer) -> Iterator[np.ndarray[Any, Any]]:
    datatype, shape = answer.outputs[0].datatype, answer.outputs[0].values.shape
    for raw in (True, False):
        response = ModelInferResponse.FromString(convert.render_answer(answer, raw))
        (output,) = response.outputs
        assert (output.datatype, list(output.shape)) == (datatype, list(shape))
        if raw or datatype not in convert.FIELDS:
            (data,) = response.raw_output_contents
            yield decode(data, datatype, int(np.prod(shape)))  # type: ignore[arg-type]
            continue
        elements = list(getattr(output.contents, convert.FIELDS[datatype]))
        if datatype == "BYTES":
            elements = [text.decode() for text in elements]
        yield np.array(elements, DTYPES[datatype])  # type: ignore[index]


NOT_FINITE = {
    "FP16": [0x7C00, 0xFC00, 0x7E00, 0x7C01],
    "BF16": [0x7F80, 0xFF80, 0x7FC0, 0x7F81],
    "FP32": [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001],
    "FP64": [0x7FF << 52, 0xFFF << 52, (0x7FF << 52) + (1 << 51), (0x7FF << 52) + 1],
}


@pytest.mark.parametrize("datatype", NOT_FINITE)
@pytest.mark.parametrize("number", range(4))
def test_what_is_not_finite_is_refused_in_every_encoding(datatype: str, number: int) -> None:
    dtype = DTYPES[datatype]  # type: ignore[index]
    values = np.zeros((2, WIDTH), dtype)
    bits = np.dtype(f"u{dtype.itemsize}")
    values.view(bits)[1, 2] = NOT_FINITE[datatype][number]
    admit = make_admission(contract(datatype))
    messages = [read_binary(values, datatype), read_grpc(values, datatype, raw=True)]
    if datatype in convert.FIELDS:
        messages.append(read_grpc(values, datatype, raw=False))
    for message in messages:
        refusal = admit({"x": to_tensor(message, datatype)})
        assert refusal is not None
        assert refusal.code == "bad_request"
    literal = json.dumps(float(as_float(values, datatype)[1, 2])).encode()
    for text in (literal, b"1e999", b"null", b'"NaN"'):
        body = b'{"inputs":[{"name":"x","datatype":"%b","shape":[1,4],"data":[0,%b,0,0]}]}'
        with pytest.raises(RequestRefused) as caught:
            prepare(read_message(body % (datatype.encode(), text))[0], contract(datatype))
        assert caught.value.code == "bad_request"


@pytest.mark.parametrize("datatype", DTYPES)
def test_a_finite_batch_is_admitted(datatype: str) -> None:
    admit = make_admission(contract(datatype))
    assert admit({"x": make_tensors(datatype)[:100]}) is None


@pytest.mark.parametrize("datatype", sorted(set(DTYPES) - {"BYTES", "BOOL"}))
def test_a_number_that_does_not_fit_is_refused_in_json(datatype: str) -> None:
    dtype = DTYPES[datatype]  # type: ignore[index]
    if datatype in FLOATS:
        largest = float(as_float(make_special(datatype), datatype)[4])
        texts = [repr(largest * 1.01) if datatype != "FP64" else "1.8e308"]
        assert texts[0] != "inf"
    else:
        limits = np.iinfo(dtype)
        texts = [str(int(limits.max) + 1), str(int(limits.min) - 1), "0.0", "1e0", "true", '"1"']
    for text in texts:
        for body in (f"[{text},0,0,0]", f"[0,0,0,{text}]"):
            document = (
                f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[1,4],"data":{body}}}]}}'
            )
            with pytest.raises(RequestRefused) as caught:
                prepare(read_message(document.encode())[0], contract(datatype))
            assert caught.value.code == "bad_request"


def make_special(datatype: str) -> np.ndarray[Any, Any]:
    return SPECIAL[datatype].astype(DTYPES[datatype])  # type: ignore[index]


def test_bf16_in_json_is_rounded_to_the_nearest_even() -> None:
    data = [1.0, 1.00390625, 1.01171875, -1.00390625]  # 1 + 1/256: half way, 1 + 3/256: half way
    item = InputData("x", "BF16", (1, 4), data)
    values = prepare(Message(None, (item,), ()), contract("BF16")).inputs["x"]
    assert [hex(bits) for bits in values[0]] == ["0x3f80", "0x3f80", "0x3f82", "0xbf80"]


BAD_BYTES = {
    "a byte too few": ("FP32", bytes(15)),
    "a byte too many": ("FP32", bytes(17)),
    "nothing": ("FP32", b""),
    "a boolean of two": ("BOOL", bytes([0, 1, 2, 0])),
    "a boolean of 255": ("BOOL", bytes([255, 1, 1, 0])),
    "a string too few": ("BYTES", bytes(12)),
    "a string too many": ("BYTES", bytes(20)),
    "a cut length": ("BYTES", bytes(15)),
    "a string that reaches beyond": ("BYTES", bytes(12) + b"\2\0\0\0a"),
    "a string that reaches far beyond": ("BYTES", bytes(12) + b"\xff\xff\xff\xff"),
    "a string beyond all others": ("BYTES", b"\xff\xff\xff\xff" + bytes(12)),
    "a string that leaves bytes": ("BYTES", bytes(12) + b"\1\0\0\0ab"),
    "a string that is no UTF-8": ("BYTES", bytes(12) + b"\1\0\0\0\xff"),
    "a surrogate": ("BYTES", bytes(12) + b"\3\0\0\0\xed\xa0\x80"),
}


@pytest.mark.parametrize("case", BAD_BYTES)
def test_bytes_that_do_not_tile_into_the_shape_are_refused_alike(case: str) -> None:
    datatype, data = BAD_BYTES[case]
    tensor = {"name": "x", "datatype": datatype, "shape": [1, WIDTH]}
    messages = [
        lambda: read_binary(data, datatype, [1, WIDTH]),
        lambda: convert.read_message(
            ModelInferRequest(inputs=[tensor], raw_input_contents=[data])
        ),
    ]  # fmt: skip
    for read in messages:
        with pytest.raises(RequestRefused) as caught:
            prepare(read(), contract(datatype))
        assert caught.value.code == "bad_request"


@pytest.mark.parametrize("datatype", ["BYTES", "FP32", "BOOL"])
def test_a_shape_of_a_billion_is_refused_before_there_is_memory_for_it(datatype: str) -> None:
    huge = make_contract(shape=(-1, -1), x=datatype)
    item = InputData("x", datatype, (1, 2**50), b"\0\0\0\0")
    with pytest.raises(RequestRefused) as caught:
        prepare(Message(None, (item,), ()), huge)
    assert caught.value.code == "bad_request"


def test_a_tensor_at_an_odd_address_is_read_right() -> None:
    values = make_tensors("FP64")[:3]
    for odd in range(1, 9):
        data = memoryview(bytes(odd) + values.tobytes())[odd:]
        item = InputData("x", "FP64", values.shape, data)
        same(prepare(Message(None, (item,), ()), contract("FP64")).inputs["x"], values, "FP64")
