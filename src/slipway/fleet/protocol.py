"""Write requests and read answers of the Open Inference Protocol V2, as callers do.

JSON, or tensors as bytes behind it (the binary extension), which alone carries FP16 and BF16
and is the form for tensors so large that reading them as text would take longer than the model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final

import numpy as np

from slipway.bundle.contract import Contract, InputTensor
from slipway.bundle.datatypes import DTYPES, FLOATS, Datatype, as_numbers, float_to_bf16
from slipway.bundle.golden import Tensors
from slipway.bundle.rows import Array, from_bytes, to_bytes

JSON_LENGTH: Final = "Inference-Header-Content-Length"
"""The header that says how much of a body is JSON, where tensors follow."""

JSON_VALUES_MAX: Final = 16_384
"""Of a request and its answer together; a host takes one to two milliseconds to read as many."""

JSON_TYPES: Final[dict[Datatype, set[type]]] = {
    "BYTES": {str},
    "BOOL": {bool},
    **{datatype: {float, int, NoneType} for datatype in FLOATS},
}
"""How JSON holds values of a datatype, if not as integers; null is what is no number."""

BINARY_ONLY: Final[frozenset[Datatype]] = frozenset({"FP16", "BF16"})


@dataclass(frozen=True)
class Body:
    """The body of a request."""

    data: bytes
    json_bytes: int | None = None
    """How much of it is JSON; None: all."""


def needs_binary(contract: Contract, values: int) -> bool:
    """Tell whether a request goes as bytes; `values` counts those of its tensors and answers."""
    datatypes = {t.datatype for t in contract.inputs} | {t.datatype for t in contract.outputs}
    return bool(datatypes & BINARY_ONLY) or values > JSON_VALUES_MAX


def write_request(inputs: Tensors, contract: Contract, binary: bool) -> Body:
    """Write a request of these rows; a missing value is JSON null, as the contract says."""
    if not binary:
        items = [
            _head(t, inputs) | {"data": _json_data(t, inputs[t.name])} for t in contract.inputs
        ]
        return Body(json.dumps({"inputs": items}, allow_nan=False, ensure_ascii=False).encode())
    tensors = [to_bytes(inputs[t.name]) for t in contract.inputs]
    items = [
        _head(t, inputs) | {"parameters": {"binary_data_size": len(data)}}
        for t, data in zip(contract.inputs, tensors, strict=True)
    ]
    document = {"inputs": items, "parameters": {"binary_data_output": True}}
    text = json.dumps(document, allow_nan=False).encode()
    return Body(b"".join((text, *tensors)), len(text))


def read_response(content: bytes, json_bytes: int | None) -> tuple[str, dict[str, Array]]:
    """Return version and outputs of an answer; BF16 becomes the FP32 numbers that it stands for.

    Raises ValueError, KeyError, TypeError or RecursionError for anything else than an answer.
    """
    length = len(content) if json_bytes is None else json_bytes
    document = json.loads(content[:length])
    position, outputs = length, {}
    for output in document["outputs"]:
        datatype, shape = output["datatype"], output["shape"]
        if datatype not in DTYPES:
            raise ValueError(f"unknown datatype {datatype!r}")
        if any(dim < 0 for dim in shape):
            raise ValueError(f"not a shape: {shape!r}")
        if "data" in output:
            values = _from_json(output["data"], datatype).reshape(shape)
        else:
            end = position + int(output["parameters"]["binary_data_size"])
            values = from_bytes(content[position:end], shape, datatype)
            position = end
        outputs[str(output["name"])] = as_numbers(values, datatype)
    if position != len(content):
        raise ValueError("bytes that no output claims")
    return str(document["model_version"]), outputs


def _head(tensor: InputTensor, inputs: Tensors) -> dict[str, Any]:
    shape = list(inputs[tensor.name].shape)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}


def _json_data(tensor: InputTensor, values: Array) -> list[Any]:
    flat: list[Any] = values.reshape(-1).tolist()
    if tensor.kind == "tensor":
        return flat
    return [None if value == "" or value != value else value for value in flat]  # NaN != NaN


def _from_json(data: Any, datatype: Datatype) -> Array:
    """Return values of the datatype; raise ValueError where it would change them."""
    found = np.asarray(data, object)
    if not {type(value) for value in found.flat} <= JSON_TYPES.get(datatype, {int}):
        raise ValueError(f"expected values that are {datatype}")
    try:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is told as such
            if datatype == "BF16":
                return float_to_bf16(found.astype(np.float64))
            numbers = found.astype(np.float64) if datatype in FLOATS else found
            return numbers.astype(DTYPES[datatype])
    except OverflowError:
        raise ValueError(f"a value does not fit {datatype}") from None


def all_finite(outputs: Mapping[str, Array]) -> bool:
    """Tell whether every number is finite."""
    return all(np.isfinite(v).all() for v in outputs.values() if v.dtype.kind == "f")
