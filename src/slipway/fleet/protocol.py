"""Read answers of the Open Inference Protocol V2, as callers do: JSON, or tensors behind it."""

import json
from collections.abc import Mapping
from types import NoneType
from typing import Any, Final

import numpy as np

from slipway.bundle.datatypes import DTYPES, FLOATS, Datatype, as_numbers, float_to_bf16
from slipway.bundle.rows import Array, from_bytes

JSON_LENGTH: Final = "Inference-Header-Content-Length"
"""The header that says how much of a body is JSON, where tensors follow."""

JSON_TYPES: Final[dict[Datatype, set[type]]] = {
    "BYTES": {str},
    "BOOL": {bool},
    **{datatype: {float, int, NoneType} for datatype in FLOATS},
}
"""How JSON holds values of a datatype, if not as integers; null is what is no number."""


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
