"""The edges of what a contract lets in, and of the binary form, each from both sides."""

import struct
from typing import Any

import numpy as np
import pytest

from slipway.bundle.contract import Contract, Padding
from slipway.host.engine.checks import align, make_admission
from slipway.host.request.admission import CATEGORY_CHARACTERS_MAX, prepare
from slipway.host.request.binary import decode, encode
from slipway.host.request.message import InputData, Message
from slipway.host.request.refusal import RequestRefused
from tests.paper_host import make_contract


def contract(datatype: str, shape: list[int], **changes: Any) -> Contract:
    """Make a contract of one input."""
    made = make_contract(shape=shape, x=datatype)
    inputs = [tensor.model_copy(update=changes) for tensor in made.inputs]
    return made.model_copy(update={"inputs": inputs})


def give(by: Contract, data: Any, shape: tuple[int, ...], datatype: str | None = None) -> Any:
    item = InputData("x", datatype or by.inputs[0].datatype, shape, data)
    return prepare(Message(None, (item,), ()), by)


def refusal(by: Contract, data: Any, shape: tuple[int, ...], datatype: str | None = None) -> str:
    with pytest.raises(RequestRefused) as refused:
        give(by, data, shape, datatype)
    assert refused.value.code == "bad_request"
    return refused.value.message


def text(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


@pytest.mark.parametrize("rest", range(1, 4))
def test_strings_that_end_within_a_length_are_refused_in_words(rest: int) -> None:
    data = text(b"abcd") + bytes(rest)
    with pytest.raises(ValueError, match="asks for 2 strings, the bytes end before"):
        decode(data, "BYTES", 2)


@pytest.mark.parametrize("length", [1, 4, 5, 2**31, 2**32 - 1, 2**32 - 4])
def test_a_length_beyond_the_bytes_is_named(length: int) -> None:
    data = text(b"ab") + struct.pack("<I", length)
    with pytest.raises(ValueError, match="a string's length reaches beyond"):
        decode(data, "BYTES", 2)


def test_strings_are_as_long_as_their_utf_8() -> None:
    values = np.array(["", "é", b"\xc3\xa9"], object)
    assert encode(values, "BYTES") == text(b"", b"\xc3\xa9", b"\xc3\xa9")
    assert decode(text(b"", b"\xc3\xa9"), "BYTES", 2).tolist() == ["", "é"]


@pytest.mark.parametrize("datatype", ["UINT16", "FP16"])
def test_another_datatype_of_the_same_width_is_another_datatype(datatype: str) -> None:
    """BF16 is held as UINT16, and is none."""
    by = contract("BF16", [-1])
    assert give(by, bytes(2), (1,), "BF16").rows == 1
    assert "datatype must be BF16" in refusal(by, bytes(2), (1,), datatype)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 1), (1, 1, 2), ()])
def test_more_dimensions_are_refused_as_fewer_are(shape: tuple[int, ...]) -> None:
    assert "got another rank" in refusal(contract("FP32", [-1, 2]), bytes(8), shape)


@pytest.mark.parametrize("count", [3, 5])
def test_an_array_has_as_many_values_as_its_shape(count: int) -> None:
    by = contract("FP32", [-1, 2])
    said = refusal(by, np.zeros(count, np.float32), (2, 2))
    assert said.endswith(f"shape asks for 4 values, got {count}")


def test_a_longer_row_than_the_longest_bucket_is_refused() -> None:
    by = contract("FP32", [-1, -1], padding=Padding(axis=1, value=0, buckets=[2, 4]))
    assert give(by, bytes(16), (1, 4)).group == (4,)
    assert "is longer than 4" in refusal(by, bytes(20), (1, 5))


def test_what_keeps_requests_apart_is_every_free_size_but_that_of_the_rows() -> None:
    by = contract("FP32", [-1, -1, 3, -1])
    assert (give(by, bytes(4 * 30), (2, 5, 3, 1)).group, by.batchable) == ((5, 1), True)
    alone = contract("FP32", [2, -1])
    assert (give(alone, bytes(24), (2, 3)).group, alone.batchable) == ((3,), False)


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_a_number_may_be_missing_and_never_infinite(datatype: str) -> None:
    admit = make_admission(contract(datatype, [-1], kind="number"))
    bits = {"FP16": (0x7C00, 0x7E00), "BF16": (0x7F80, 0x7FC0)}
    wide = {"FP32": np.float32, "FP64": np.float64}
    if datatype in bits:
        infinite, missing = (np.array([0, b], np.uint16) for b in bits[datatype])
        if datatype == "FP16":
            infinite, missing = infinite.view(np.float16), missing.view(np.float16)
    else:
        infinite, missing = (np.array([0, v], wide[datatype]) for v in (np.inf, np.nan))
    assert admit({"x": missing}) is None
    refused = admit({"x": infinite})
    assert refused is not None
    assert f"every value must be finite and fit {datatype}" in refused.message


def test_a_category_may_be_as_long_as_the_limit() -> None:
    by = contract("BYTES", [-1], kind="category")
    longest = "x" * CATEGORY_CHARACTERS_MAX
    assert give(by, [longest], (1,)).inputs["x"].tolist() == [longest]
    assert "has over 1024 characters" in refusal(by, [longest + "x"], (1,))


@pytest.mark.parametrize("data", [[None, ""], text(b"", b"")], ids=["JSON", "binary"])
def test_a_missing_category_is_none_of_the_unknown_ones(data: Any) -> None:
    by = contract("BYTES", [-1], kind="category", categories=["a"])
    assert give(by, data, (2,)).inputs["x"].tolist() == ["", ""]


def test_what_lies_at_an_odd_address_is_copied_and_nothing_else() -> None:
    odd = np.frombuffer(b"x" + np.arange(3.0).tobytes(), np.uint8)[1:].view(np.float64)
    even = np.arange(3.0)
    inputs = {"odd": odd, "even": even}
    align(inputs)
    assert inputs["odd"].flags.aligned
    assert inputs["odd"].tolist() == [0, 1, 2]
    assert inputs["even"] is even
