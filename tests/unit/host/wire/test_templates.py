"""A request that is answered by a learnt plan gets what a fresh host gives, byte for byte."""

import json
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.host.wire.http.infer import Infer
from slipway.host.wire.http.templates import SKELETON_MAX, TEMPLATES_MAX
from tests.paper_host import PaperHost, make_contract, read_response, request

KINDS = ("FP32", "FP64", "INT64", "UINT64", "INT32", "FP16", "BF16", "BOOL", "BYTES")


@pytest.fixture(scope="module")
def host() -> Iterator[PaperHost]:
    """Serve a model of each datatype, one of vectors, one of any length, and one of two inputs."""
    host = PaperHost(
        *(make_contract(kind, x=kind) for kind in KINDS),
        make_contract("flat", [-1], x="FP32"),
        make_contract("free", [-1, -1], x="FP32"),
        make_contract("two", x="FP32", z="FP32"),
        make_contract("named", **{'da"ta': "FP32"}),
    )
    yield host
    host.close()


def ask(host: PaperHost, model: str, body: bytes, header_length: int | None = None) -> bytes:
    raw, _ = host.talk(request(body, header_length, f"/v2/models/{model}/infer"))
    return raw


def check(host: PaperHost, model: str, *asked: tuple[bytes, int | None]) -> None:
    """Ask in turn, each twice; every answer must be the one of a host that knows nothing."""
    host.forget()
    answers = [ask(host, model, *one) for one in asked for _ in range(2)]
    answers += [ask(host, model, *one) for one in asked for _ in range(2)]  # templates are there
    expected = []
    for one in asked:
        host.forget()
        expected.append(ask(host, model, *one))
    twice = [answer for answer in expected for _ in range(2)]
    assert answers == twice + twice


def templates(host: PaperHost, model: str) -> int:
    stable = host.core.models[model].stable
    assert stable
    return len(stable.templates)


def item(data: str = "[1,2]", **changes: Any) -> bytes:
    fields = {"name": '"x"', "datatype": '"FP32"', "shape": "[1,2]", "data": data, **changes}
    inside = ",".join(f'"{key}":{value}' for key, value in fields.items())
    return b'{"inputs":[{%b}]}' % inside.encode()


def tensor(kind: str = "FP32", size: int = 8, **extra: Any) -> bytes:
    parameters = {"binary_data_size": size}
    one = {"name": "x", "datatype": kind, "shape": [1, 2], "parameters": parameters}
    return json.dumps({"inputs": [one], **extra}).encode()


@pytest.mark.parametrize("kind", ["FP32", "FP64", "INT64", "UINT64"])
def test_a_form_is_learnt_once_whatever_its_numbers(host: PaperHost, kind: str) -> None:
    host.forget()
    for n in range(5):
        body = item(f"[{n},{n + 1}]", datatype=f'"{kind}"')
        status, _, answer = read_response(ask(host, kind, body))
        assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, [n, n + 1])
    assert templates(host, kind) == 1


@pytest.mark.parametrize("kind", ["FP32", "FP64", "INT64", "UINT64", "INT32", "FP16", "BF16"])
def test_a_binary_form_is_learnt_once_whatever_its_numbers(host: PaperHost, kind: str) -> None:
    host.forget()
    size = 2 if kind in ("FP16", "BF16") else 4 if kind in ("FP32", "INT32") else 8
    head = tensor(kind, 2 * size, parameters={"binary_data_output": True})
    for n in range(5):
        status, headers, answer = read_response(
            ask(host, kind, head + bytes([n] * 2 * size), len(head))
        )
        assert status == 200
        assert answer[int(headers["inference-header-content-length"]) :] == bytes([n] * 2 * size)
    assert templates(host, kind) == 1


DATA_AS_PARAMETER = (
    b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],'
    b'"parameters":{"binary_data_size":8,"data":1}}]}'
)

POISON = {
    "the rest of nested data behind a flat array": (
        "FP32",
        (item("[[1,2],[3,4]]", shape="[2,2]"), None),
        (item("[1,2,3,4],[3,4]]", shape="[2,2]"), None),
    ),
    "JSON of a given length is another's skeleton": (
        "FP32",
        (item("[1,2]"), len(item("[1,2]"))),
        (item("[9,9][1,2]"), None),
    ),
    "a skeleton as JSON of a given length": (
        "FP32",
        (item("[9,9]"), None),
        (item(""), len(item(""))),
    ),
    "tensors behind JSON that held its own": (
        "FP32",
        (item("[1,2]"), len(item("[1,2]"))),
        (item("[1,2]") + bytes(8), len(item("[1,2]"))),
    ),
    "the same JSON with and without tensors": (
        "FP32",
        (tensor() + bytes(8), len(tensor())),
        (tensor(), None),
        (tensor(), len(tensor())),
        (tensor() + bytes(9), len(tensor())),
        (tensor() + bytes(7), len(tensor())),
        (tensor() + bytes(8), len(tensor()) + 8),
    ),
    "JSON whose skeleton heads tensors": (
        "FP32",
        (DATA_AS_PARAMETER + bytes(8), len(DATA_AS_PARAMETER)),
        (DATA_AS_PARAMETER.replace(b'"data":1', b'"data":[1]1'), None),
    ),
    "a plan that is asked as a raw request": (
        "FP32",
        (tensor() + bytes(8), len(tensor())),
        (bytes(8), 0),
        (tensor(), 0),
    ),
    "data given twice": (
        "FP32",
        (item("[1,2]"), None),
        (item('[1,2],"data":[3,4]'), None),
        (item('[3,4],"data" :[3,4]'), None),
    ),
    "data given twice, once with a space": (
        "FP32",
        (item("[1,2]"), None),
        (item("[1,2]").replace(b'"data":', b'"data" :[9,9],"data":'), None),
        (item("[1,2]").replace(b'"data":', b'"d\\u0061ta":[9,9],"data":'), None),
    ),
    "data in a string before": (
        "FP32",
        (item("[1,2]").replace(b"{", b'{"id":"\\"data\\":[5,6]",', 1), None),
        (item("[1,2]").replace(b"{", b'{"id":"\\"data\\":[7,8]",', 1), None),
    ),
    "data in a string before, as a key of a parameter": (
        "FP32",
        (item("[1,2]").replace(b"{", b'{"parameters":{"data":1},', 1), None),
        (item("[1,2]").replace(b"{", b'{"parameters":{"data":[3,4]},', 1), None),
        (item("[1,2]").replace(b"{", b'{"parameters":{"a\\"data":1},', 1), None),
        (item("[1,2]").replace(b"{", b'{"parameters":{"a\\"data":[1]},', 1), None),
    ),
    "a bracket in a string": (
        "BYTES",
        (item('["]","b"]', datatype='"BYTES"'), None),
        (item('["","b"]', datatype='"BYTES"'), None),
        (item('[],"b"]', datatype='"BYTES"'), None),
    ),
    "what is no JSON number": (
        "FP32",
        (item("[1,2]"), None),
        *((item(data), None) for data in (
            "[1,]", "[,1]", "[1 2]", "[01,2]", "[+1,2]", "[.5,2]", "[1.,2]", "[NaN,1]", "[1,2",
            "[1,2]]", "[[1,2]", "[1,2],", "[1,null]", "[1,true]", '["1",2]', "[{},1]", "[]",
            "[1]", "[1,2,3]", "[0x1,2]", "[1,2\0]", "[1,2/**/]", "[1,2]\0", "[1e400,2]",
            "[1e39,2]", "[-1e39,2]", "[1e-400,2]", "[-0,-0.0]", "[18446744073709551616,1]",
            "[1\n,\t2 ]", " [1,2]", "  [1,2]", "[1,2] ", "\n[1,2]", "[1E2,2e+1]", "[1,2\xff]",
        )),
    ),
    "whole numbers that do not fit": (
        "INT64",
        (item("[1,2]", datatype='"INT64"'), None),
        *((item(data, datatype='"INT64"'), None) for data in (
            "[9223372036854775807,-9223372036854775808]", "[9223372036854775808,1]", "[1.0,2]",
            "[1e2,2]", "[-9223372036854775809,1]", "[true,1]", "[-0,1]", "[-0.0,1]",
        )),
    ),
    "natural numbers that do not fit": (
        "UINT64",
        (item("[1,2]", datatype='"UINT64"'), None),
        *((item(data, datatype='"UINT64"'), None) for data in (
            "[18446744073709551615,0]", "[18446744073709551616,1]", "[-1,2]", "[-0,1]", "[1.0,2]",
        )),
    ),
    "other rows under the same plan": (
        "flat",
        (item("[1,2]", shape="[2]"), None),
        (item("[1,2,3]", shape="[2]"), None),
        (item("[1,2,3]", shape="[3]"), None),
        (item("[" + "1," * 99 + "1]", shape="[100]"), None),
    ),
    "another input": (
        "two",
        (item("[1,2]"), None),
        (item("[1,2]").replace(b"]}", b'],"inputs":[]}'), None),
        (item('[1,2]},{"name":"z","datatype":"FP32","shape":[1,2],"data":[3,4]'), None),
        (item('[5,6]},{"name":"z","datatype":"FP32","shape":[1,2],"data":[3,4]'), None),
        (item('[5,6]},{"name":"z","datatype":"FP32","shape":[1,2],"data":[7,8]'), None),
    ),
    "an input that is named after data": (
        "named",
        (item("[1,2]", name='"da\\"ta"'), None),
        (item("[3,4]", name='"da\\"ta"'), None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", POISON)
def test_what_was_learnt_never_changes_the_answer_to_something_else(
    host: PaperHost, case: str
) -> None:
    model, *asked = POISON[case]
    check(host, model, *asked)
    check(host, model, *reversed(asked))


def test_a_number_too_large_for_fp32_is_refused_alike_where_warnings_are_no_errors(
    host: PaperHost,
) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.resetwarnings()
        Infer(host.core, host.listener.limits, None)  # as a host does at its start
        check(host, "FP32", (item("[1,2]"), None), (item("[1e39,2]"), None))
    assert warned == []


NUMBERS = st.sampled_from(
    ["0", "-0", "-0.0", "1", "0.1", "1e2", "1e38", "1e39", "1e308", "1e309", "5e-324", "1e-46",
     "16777217", "9007199254740993", "9223372036854775807", "9223372036854775808",
     "18446744073709551615", "18446744073709551616", "-9223372036854775808", "3.4028235e38",
     "3.40282357e38", "65504", "65520", "1.0", "null", "true", '"a"', '"]"', '"[1,2]"', "[1]",
     "[]", "{}", '{"data":[1]}', "01", "", "NaN", "é", '"\\ud83d\\ude00"']
)  # fmt: skip
GOOD_NUMBERS = st.integers(0, 99).map(str) | st.floats(0, 99, width=32).map(repr)
SPACES = st.sampled_from(["", "", "", " ", "\n", "\t ", "  "])


@st.composite
def data(draw: st.DrawFn, numbers: st.SearchStrategy[str]) -> str:
    space = draw(SPACES)
    values = draw(st.lists(numbers, min_size=2, max_size=2) | st.lists(numbers, max_size=5))
    inside = f"{draw(SPACES)},{space}".join(values)
    form = draw(st.sampled_from(["[%s]", "[%s]", "[%s]", "[[%s]]", "[ %s ]", "[[%s],[1,2]]", "%s"]))
    return form % inside


@st.composite
def bodies(draw: st.DrawFn, kind: str, good: bool) -> tuple[bytes, int | None]:
    """Return a request body: JSON in any spelling, or binary, right or nearly so."""
    if draw(st.booleans()):
        size = draw(st.sampled_from([8, 8, 8, 4, 16]))
        head = tensor(kind, size, id=draw(st.sampled_from(["", "a", "é", '"data":[1]'])))
        rest = draw(st.binary(min_size=size, max_size=size) if good else st.binary(max_size=17))
        return head + rest, len(head) + (0 if good else draw(st.sampled_from([0, 0, 0, -1, 1, 8])))
    colon = f"{draw(SPACES)}:{draw(SPACES)}"
    fields = {
        '"name"': draw(st.sampled_from(['"x"', '"x"', '"x"', '"\\u0078"', '"y"'])),
        '"datatype"': f'"{kind}"',
        '"shape"': draw(st.sampled_from(["[1,2]", "[1,2]", "[2,2]", "[ 1 , 2 ]", "[2]"])),
        '"data"': draw(data(GOOD_NUMBERS if good else NUMBERS | GOOD_NUMBERS)),
    }
    if not good:
        key = draw(st.sampled_from(['"data"', '"d\\u0061ta"', '"a"', '"parameters"']))
        fields[f" {key}"] = draw(data(NUMBERS) | st.just('{"data":1}') | st.just('"data\\":[1]"'))
    names = draw(st.permutations(sorted(fields)))
    one = "{" + ",".join(f"{name}{colon}{fields[name]}" for name in names) + "}"
    extra = draw(st.sampled_from(["", "", ',"id":"a"', ',"id":"\\"data\\":[1,2]"', ',"id":"]["']))
    text = f'{{"inputs":[{one}]{extra}}}'.encode()
    return text, draw(st.sampled_from([None, None, None, len(text)]))


@st.composite
def mutated(draw: st.DrawFn, kind: str) -> tuple[bytes, int | None]:
    body, header_length = draw(bodies(kind, True))
    raw = bytearray(body)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b"[", b"]", b'"', b",", b":", b" ", b"{", b"}", b"1", b"-", b"e",
                             b'"data":', b"[1,2]", b"\0", b"\xff", b"\\"])
        )  # fmt: skip
    return bytes(raw), header_length


@settings(max_examples=60, deadline=None)
@given(asked=st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(
    st.just(kind),
    st.lists(bodies(kind, True), min_size=1, max_size=2),
    st.lists(bodies(kind, False) | mutated(kind), min_size=1, max_size=3),
)))  # fmt: skip
def test_whatever_is_asked_a_second_time_gets_what_a_fresh_host_gives(
    host: PaperHost, asked: tuple[str, list[Any], list[Any]]
) -> None:
    kind, good, other = asked
    check(host, kind, *good, *other)


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 200), put=st.binary(max_size=3), cut=st.integers(0, 3))
@example(at=0, put=b"", cut=0)
def test_any_bytes_changed_in_a_learnt_request_get_what_a_fresh_host_gives(
    host: PaperHost, at: int, put: bytes, cut: int
) -> None:
    good = item("[1,2]", shape="[1,2]")
    at %= len(good)
    check(host, "FP32", (good, None), (good[:at] + put + good[at + cut :], None))


def test_the_memory_of_plans_is_bounded(host: PaperHost) -> None:
    host.forget()
    for n in range(3 * TEMPLATES_MAX):
        body = item("[1,2]").replace(b"{", b'{"id":"%d",' % n, 1)
        assert read_response(ask(host, "FP32", body))[0] == 200
        assert templates(host, "FP32") <= TEMPLATES_MAX
    stable = host.core.models["FP32"].stable
    assert stable
    assert max(map(len, stable.templates)) <= SKELETON_MAX + 16


def test_a_long_skeleton_is_not_learnt(host: PaperHost) -> None:
    host.forget()
    space = b" " * SKELETON_MAX
    for body in (item("[1,2]") + space, space + item("[1,2]")):
        assert read_response(ask(host, "FP32", body))[0] == 200
    head = tensor() + space
    for _ in range(2):  # the second time by a remembered head
        assert read_response(ask(host, "FP32", head + bytes(8), len(head)))[0] == 200
    assert templates(host, "FP32") == 0


def test_callers_who_want_other_outputs_get_them_by_the_same_numbers(host: PaperHost) -> None:
    head = tensor()
    values = np.array([1, 2], np.float32).tobytes()
    for wanted in (True, False, True):
        asked = tensor(parameters={"binary_data_output": wanted})
        status, headers, body = read_response(ask(host, "FP32", asked + values, len(asked)))
        assert (status, "inference-header-content-length" in headers) == (200, wanted)
        assert body.endswith(values) == wanted
    check(host, "FP32", (head + values, len(head)))
