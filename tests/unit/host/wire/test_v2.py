import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.bundle.contract import Contract, Datatype, InputTensor
from slipway.host.engine.checks import Checked
from slipway.host.request.admission import pick_outputs, prepare
from slipway.host.request.message import Answer, Array, OutputData
from slipway.host.request.refusal import RequestRefused, quote
from slipway.host.wire.http.v2 import CONTAINERS_MAX, read_message, render_answer, render_refusal
from tests.support.contracts import make_contract, make_input, make_output


def tensor(name: str, datatype: Datatype, shape: list[int], **fields: Any) -> InputTensor:
    kind = "category" if datatype == "BYTES" else "number"
    return make_input(name, datatype, shape, kind=kind, missing="missing", **fields)


def contract(*inputs: InputTensor, max_rows: int = 8) -> Contract:
    return make_contract(inputs, [make_output("y"), make_output("z")], max_rows=max_rows)


X = contract(tensor("X", "FP32", [-1, 4]))
FLAT = contract(tensor("X", "FP32", [-1]))
COUNT = contract(tensor("X", "INT32", [-1]))
FLAG = contract(tensor("X", "BOOL", [-1]))
OPEN = contract(tensor("X", "BYTES", [-1], categories=["a", "b"], unknown="as unseen"))
CLOSED = contract(tensor("X", "BYTES", [-1], categories=["a", "b"]))
TWO = contract(tensor("X", "FP32", [-1]), tensor("Z", "FP32", [-1]))


def body(**changes: Any) -> dict[str, Any]:
    item = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4], **changes}
    return {"inputs": [{key: value for key, value in item.items() if value is not ...}]}


def flat(data: list[Any], datatype: str = "FP32", **changes: Any) -> dict[str, Any]:
    return body(shape=[len(data)], data=data, datatype=datatype, **changes)


def tensors(document: Any, by: Contract = X) -> dict[str, Any]:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    message, _ = read_message(raw)
    pick_outputs(message, by)
    return prepare(message, by).inputs


def refusal(document: Any, by: Contract = X) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        tensors(document, by)
    return caught.value


def attempt(document: bytes, by: Contract) -> dict[str, Any] | RequestRefused:
    try:
        return tensors(document, by)
    except RequestRefused as refused:
        return refused


def nested(levels: int) -> bytes:
    return b'{"inputs":[{"name":"X","shape":[1],"datatype":"FP32","data":%b}]}' % (
        b"[" * levels + b"1" + b"]" * levels
    )


MALFORMED = {
    "shape and data differ": body(shape=[1, 5]),
    "fewer values than the shape": body(data=[1, 2, 3]),
    "no values": body(data=[]),
    "negative dimension": body(shape=[1, -4]),
    "product overflows": body(shape=[16, 2**60 + 2]),
    "one dimension overflows": body(shape=[2**64, 4]),
    "no rows": body(shape=[0, 4], data=[]),
    "too many rows": body(shape=[9, 4], data=[0] * 36),
    "dimension is true": body(shape=[True, 4]),
    "dimension is a float": body(shape=[1.0, 4]),
    "dimension is a string": body(shape=["1", 4]),
    "shape is a number": body(shape=4),
    "no shape": body(shape=...),
    "other rank": body(shape=[4]),
    "unknown datatype": body(datatype="FP99"),
    "other datatype": body(datatype="FP64"),
    "datatype is a list": body(datatype=["FP32"]),
    "strings as numbers": body(data=["1", "2", "3", "4"]),
    "booleans as numbers": body(data=[True, False, True, False]),
    "objects as numbers": body(data=[{}, {}, {}, {}]),
    "NaN literal": json.dumps(body(data=[float("nan"), 1, 2, 3])).encode(),
    "Infinity literal": json.dumps(body(data=[float("inf"), 1, 2, 3])).encode(),
    "1e999": b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[1e999,1,2,3]}]}',
    "too large for FP32": body(data=[1e39, 1, 2, 3]),
    "ragged": body(data=[[1, 2], [3]]),
    "ragged with the right number": body(shape=[2, 4], data=[[1, 2, 3], [4, 5, 6, 7, 8]]),
    "nested in another form": body(shape=[2, 4], data=[[1, 2]] * 4),
    "deeper than its shape": body(data=[[[1], [2], [3], [4]]]),
    "nested halfway": body(data=[[1, 2, 3, 4], 5]),
    "data is an object": body(data={"0": 1}),
    "data is a string": body(data="1234"),
    "no data": body(data=...),
    "no inputs": {},
    "inputs is null": {"inputs": None},
    "empty inputs": {"inputs": []},
    "an input is a list": {"inputs": [[]]},
    "an input given twice": {"inputs": body()["inputs"] * 2},
    "unknown input": body(name="ZZ"),
    "name is a number": body(name=1),
    "empty name": body(name=""),
    "endless name": body(name="X" * 257),
    "unknown key": {**body(), "output": []},
    "another model than the path's": {**body(), "model_name": "n"},
    "a model that is no text": {**body(), "model_name": 1},
    "unknown key in an input": body(dims=[1]),
    "unknown output": {**body(), "outputs": [{"name": "nope"}]},
    "an output given twice": {**body(), "outputs": [{"name": "y"}, {"name": "y"}]},
    "outputs is null": {**body(), "outputs": None},
    "an output is a string": {**body(), "outputs": ["y"]},
    "binary output is 1": {**body(), "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
    "binary outputs is 1": {**body(), "parameters": {"binary_data_output": 1}},
    "classification": {**body(), "outputs": [{"name": "y", "parameters": {"classification": 2}}]},
    "shared memory": body(parameters={"shared_memory_region": "a"}),
    "shared memory of an output": {
        **body(),
        "outputs": [{"name": "y", "parameters": {"shared_memory_region": "a"}}],
    },
    "timeout is negative": {**body(), "parameters": {"timeout": -1}},
    "timeout is a float": {**body(), "parameters": {"timeout": 1.0}},
    "timeout is true": {**body(), "parameters": {"timeout": True}},
    "priority is a string": {**body(), "parameters": {"priority": "1"}},
    "priority over 64 bits": {**body(), "parameters": {"priority": 2**64}},
    "a sequence": {**body(), "parameters": {"sequence_id": 7}},
    "the start of a sequence": {**body(), "parameters": {"sequence_start": False}},
    "binary input": body(data=..., parameters={"binary_data_size": 16}),
    "binary and data": body(parameters={"binary_data_size": 16}),
    "negative binary size": body(data=..., parameters={"binary_data_size": -16}),
    "parameters is a list": {**body(), "parameters": []},
    "a parameter is an object": {**body(), "parameters": {"a": {}}},
    "id is a number": {**body(), "id": 7},
    "id is null": {**body(), "id": None},
    "endless id": {**body(), "id": "x" * 257},
    "cut short": b'{"inputs":[',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "nothing": b"",
    "no UTF-8": b'{"id":"\xff"}',
    "lone surrogate": b'{"id":"\\ud800"}',
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(body()).encode(),
    "something after the end": json.dumps(body()).encode() + b"{}",
    "65 levels": nested(65),
    "200 levels": nested(200),
    "100,000 levels": nested(100_000),
    "250,000 open brackets": b"[" * 250_000,
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_refused_as_a_bad_request(case: str) -> None:
    assert refusal(MALFORMED[case]).code == "bad_request"


KEYS_TWICE = {
    "in the request": b'{"id":"a","id":"b","inputs":[%b]}',
    "in an input": b'{"inputs":[{"name":"X",%b}]}',
    "the data": b'{"inputs":[{"data":[9,9,9,9],%b}]}',
    "in the parameters": b'{"parameters":{"p":1,"p":2},"inputs":[%b]}',
    "in an input's parameters": b'{"inputs":[{"parameters":{"p":1,"p":1},%b}]}',
    "in an output": b'{"outputs":[{"name":"y","name":"y"}],"inputs":[%b]}',
    "in an output's parameters": (
        b'{"outputs":[{"name":"y","parameters":{"p":1,"p":2}}],"inputs":[%b]}'
    ),
    "by an escape": b'{"inputs":[{"d\\u0061ta":[9,9,9,9],%b}]}',
    "the inputs": b'{"inputs":[],"inputs":[%b]}',
}


@pytest.mark.parametrize("case", KEYS_TWICE)
def test_a_key_given_twice_is_refused_at_every_level(case: str) -> None:
    item = json.dumps(body()["inputs"][0]).encode()
    template = KEYS_TWICE[case]
    inside = item[1:-1] if b"%b}]}" in template else item
    problem = refusal(template % inside)
    assert (problem.code, "no key twice" in problem.message) == ("bad_request", True)


def test_colons_in_strings_are_no_keys() -> None:
    document = {**body(parameters={"a:b": "c:d"}), "id": "::", "parameters": {":": ":"}}
    assert tensors(document)["X"].shape == (1, 4)


@pytest.mark.parametrize("levels", [65, 200, 1000])
def test_json_that_is_too_deep_is_refused_for_its_depth(levels: int) -> None:
    assert "64 levels" in refusal(nested(levels)).message


def test_json_of_sixty_levels_is_judged_by_its_shape_instead() -> None:
    assert "64 levels" not in refusal(nested(60)).message


def test_flat_and_nested_data_mean_the_same() -> None:
    expected = np.arange(8, dtype=np.float32).reshape(2, 4)
    for data in ([0, 1, 2, 3, 4, 5, 6, 7], [[0, 1, 2, 3], [4, 5, 6, 7]]):
        actual = tensors(body(shape=[2, 4], data=data))["X"]
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, expected)


def test_a_missing_number_becomes_nan() -> None:
    np.testing.assert_array_equal(
        tensors(flat([1, None, 2.5]), FLAT)["X"], np.array([1, np.nan, 2.5], np.float32)
    )


def test_a_missing_category_becomes_the_empty_string() -> None:
    values = tensors(flat(["a", None, ""], "BYTES"), OPEN)["X"]
    assert values.dtype == object
    assert list(values) == ["a", "", ""]


def test_an_integer_cannot_be_missing() -> None:
    assert "got null" in refusal(flat([1, None], "INT32"), COUNT).message


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**63, 1.0, 10**30])
def test_an_integer_must_fit_and_be_whole(value: float) -> None:
    refusal(flat([value], "INT32"), COUNT)


def test_integers_and_booleans_keep_their_values() -> None:
    assert tensors(flat([-(2**31), 2**31 - 1], "INT32"), COUNT)["X"].tolist() == [
        -(2**31),
        2**31 - 1,
    ]
    assert tensors(flat([True, False], "BOOL"), FLAG)["X"].tolist() == [True, False]


def test_zero_and_one_are_no_booleans() -> None:
    refusal(flat([0, 1], "BOOL"), FLAG)


def test_an_unknown_category_is_passed_on_where_the_contract_knows_what_it_means() -> None:
    assert list(tensors(flat(["zz"], "BYTES"), OPEN)["X"]) == ["zz"]


def test_an_unknown_category_is_refused_where_the_contract_does_not() -> None:
    assert "unknown category 'zz'" in refusal(flat(["zz"], "BYTES"), CLOSED).message


def test_text_outside_ascii_and_with_null_characters_arrives_unchanged() -> None:
    texts = ["é", "\U0001f6e9", "a\0b"]
    assert list(tensors(flat(texts, "BYTES"), OPEN)["X"]) == texts


def test_an_endless_category_is_refused() -> None:
    refusal(flat(["x" * 1025], "BYTES"), OPEN)


def test_more_rows_than_the_contract_allows_are_refused_with_the_limit() -> None:
    assert "1 to 8 rows" in refusal(flat([0.0] * 9), FLAT).message


def test_inputs_with_different_numbers_of_rows_are_refused() -> None:
    items = [*flat([1.0])["inputs"], {**flat([1.0, 2.0])["inputs"][0], "name": "Z"}]
    assert "has 2 rows where other inputs have 1" in refusal({"inputs": items}, TWO).message


def test_a_left_out_input_is_named() -> None:
    assert "missing input 'Z'" in refusal(flat([1.0]), TWO).message


def test_inputs_may_come_in_any_order() -> None:
    items = [{**flat([2.0])["inputs"][0], "name": "Z"}, *flat([1.0])["inputs"]]
    actual = tensors({"inputs": items}, TWO)
    assert {name: values.tolist() for name, values in actual.items()} == {"X": [1.0], "Z": [2.0]}


@pytest.mark.parametrize(
    ("asked", "expected"), [([], ("y", "z")), (["z"], ("z",)), (["z", "y"], ("z", "y"))]
)
def test_the_outputs_asked_for_are_given_or_all(asked: list[str], expected: tuple[str]) -> None:
    document = {**body(), "outputs": [{"name": name} for name in asked]}
    message, _ = read_message(json.dumps(document).encode())
    assert pick_outputs(message, X) == expected


def test_known_parameters_and_those_of_others_do_no_harm() -> None:
    document = {**body(parameters={"a": 1}), "parameters": {"binary_data_output": False, "p": "q"}}
    assert tensors(document)["X"].shape == (1, 4)


def test_the_id_is_kept_even_when_it_is_empty() -> None:
    for given_id in ("", "a\r\nb", "x" * 256):
        message, _ = read_message(json.dumps({**body(), "id": given_id}).encode())
        assert message.id == given_id


def test_an_answer_is_the_protocols_json() -> None:
    values = np.array([0.1, 0.25], np.float32)
    names = np.array(["a", "b"], object)
    answer = Answer("m", "f" * 64, "7", (OutputData("y", "FP32", values),
                                         OutputData("n", "BYTES", names)))  # fmt: skip
    text, header_length = render_answer(answer)
    assert header_length is None
    assert json.loads(text) == {
        "model_name": "m",
        "model_version": "f" * 64,
        "id": "7",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2], "data": [0.1, 0.25]},
            {"name": "n", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
        ],
    }


def test_an_answer_without_an_id_has_none() -> None:
    assert b'"id"' not in render_answer(Answer("m", "v", None, ()))[0]


class PaperRunner:
    """Answers `y` with the same values whatever it is asked, and `z` with what is right."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return {"y": self.values, "z": np.zeros(len(inputs["X"]), np.float32)}


def checked(values: Array, rows: int = 2) -> Any:
    return Checked(PaperRunner(values), X).run({"X": np.zeros((rows, 4), np.float32)})


def test_an_answer_that_keeps_the_contract_is_passed_on() -> None:
    values = np.array([0.5, 1.5], np.float32)
    assert checked(values)["y"] is values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(RequestRefused) as caught:
        checked(np.array([0.5, value], np.float32))
    assert caught.value.code == "non_finite_output"


@pytest.mark.parametrize(
    "values", [np.zeros(3, np.float32), np.zeros((2, 1), np.float32), np.zeros(2, np.float64)]
)
def test_an_answer_that_breaks_the_contract_is_the_models_fault(values: Any) -> None:
    with pytest.raises(RequestRefused) as caught:
        checked(values)
    assert caught.value.code == "model_failed"


def test_an_error_body_has_the_three_keys() -> None:
    body = json.loads(render_refusal(RequestRefused("not_ready", "wait"), "r1"))
    assert body == {"error": "wait", "code": "not_ready", "request_id": "r1"}


def test_what_a_caller_sent_is_quoted_short_and_in_ascii() -> None:
    assert quote("é\r\n\x1b[31m\u202e") == r"'\xe9\r\n\x1b[31m\u202e'"
    assert len(quote("x" * 1000)) < 80


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["X", "FP32", "BYTES", "y", [1], [1, 4], [[1, 2, 3, 4]]])
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("X") | JSON,
        "shape": st.lists(st.integers(-2, 9), max_size=3) | st.just([1, 4]) | JSON,
        "datatype": st.sampled_from(["FP32", "BYTES", "INT32", "BOOL"]) | JSON,
        "data": st.lists(SCALARS, max_size=9) | st.just([1, 2, 3, 4]) | JSON,
        "parameters": JSON,
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(FIELDS, max_size=3) | JSON},
    optional={"id": JSON, "outputs": JSON, "parameters": JSON},
)


@settings(max_examples=400, deadline=None)
@given(document=REQUESTS | JSON, by=st.sampled_from([X, FLAT, COUNT, FLAG, OPEN, CLOSED, TWO]))
def test_no_json_whatever_gets_anything_but_tensors_or_a_refusal(
    document: Any, by: Contract
) -> None:
    made = attempt(json.dumps(document).encode(), by)
    if isinstance(made, RequestRefused):
        assert made.status == 400
    else:
        assert set(made) == {item.name for item in by.inputs}
        assert all(1 <= len(values) <= by.max_rows for values in made.values())


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=64))
def test_no_bytes_whatever_get_anything_but_a_refusal(raw: bytes) -> None:
    with pytest.raises(RequestRefused):
        tensors(raw)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 1000), value=st.integers(0, 255))
def test_a_good_request_with_one_byte_changed_is_answered_or_refused(at: int, value: int) -> None:
    raw = bytearray(json.dumps({**body(), "id": "a", "outputs": [{"name": "y"}]}).encode())
    raw[at % len(raw)] = value
    made = attempt(bytes(raw), X)
    assert not isinstance(made, RequestRefused) or made.code == "bad_request"


@pytest.mark.parametrize(
    "filler", [b"[]," * (CONTAINERS_MAX + 1), b"{}," * (CONTAINERS_MAX + 1), b"," * 4_194_305]
)
def test_json_that_would_fill_the_memory_is_refused_unread(filler: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        read_message(b'{"inputs":[' + filler)
    assert caught.value.code == "too_large"


def test_the_model_may_be_named_again() -> None:
    raw = json.dumps({**body(), "model_name": "m"}).encode()
    assert read_message(raw, model="m")[0] == read_message(json.dumps(body()).encode())[0]
    with pytest.raises(RequestRefused, match="not the model of the path"):
        read_message(raw, model="n")
