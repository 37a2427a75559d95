"""Write requests of the Open Inference Protocol V2, as callers do.

JSON, or tensors as bytes behind it (the binary extension), which alone carries FP16 and BF16
and is the form for tensors so large that reading them as text would take longer than the model.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from slipway.bundle.contract import Contract, InputTensor
from slipway.bundle.datatypes import Datatype
from slipway.bundle.golden import Tensors
from slipway.bundle.rows import Array, to_bytes

JSON_VALUES_MAX: Final = 16_384
"""Of a request and its answer together; a host takes one to two milliseconds to read as many."""

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


def _head(tensor: InputTensor, inputs: Tensors) -> dict[str, Any]:
    shape = list(inputs[tensor.name].shape)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}


def _json_data(tensor: InputTensor, values: Array) -> list[Any]:
    flat: list[Any] = values.reshape(-1).tolist()
    if tensor.kind == "tensor":
        return flat
    return [None if value == "" or value != value else value for value in flat]  # NaN != NaN
