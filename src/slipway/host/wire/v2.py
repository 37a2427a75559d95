"""Read and write the JSON of the Open Inference Protocol V2.

Knows the protocol, not the model: that a tensor fits its contract is `tensors`' business.
Strict where the specification leaves a choice: a key that it does not name, a number that is
not finite and a binary tensor are refused, because a request that is half understood gets an
answer that is wrong.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson

from slipway.host.message import Answer, Array, InputData, Message
from slipway.host.refusal import RequestRefused, bad_request, quote

DEPTH_MAX: Final = 64
"""Deepest JSON. orjson stops by itself at 1,024, so measuring the depth below is safe."""

TEXT_MAX: Final = 256
"""Longest id and longest name."""

TENSORS_MAX: Final = 1024
"""Most inputs and most outputs of one request."""


def read_message(body: bytes | bytearray) -> Message:
    """Read a request body; raise RequestRefused, and nothing else, on anything malformed."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise bad_request("the body is not JSON (RFC 8259, at most 64 levels deep)") from None
    if too_deep(document):
        raise bad_request("the body is not JSON (RFC 8259, at most 64 levels deep)")
    fields = _mapping(document, "the request", ("id", "parameters", "inputs", "outputs"))
    parameters = _parameters(fields, "the request")
    if parameters.get("binary_data_output") is True:
        raise bad_request("binary outputs are not supported; leave out 'binary_data_output'")
    inputs = [_input(item) for item in _list(fields.get("inputs"), "'inputs'")]
    outputs = [_output(item) for item in _list(fields.get("outputs", []), "'outputs'")]
    _unique([i.name for i in inputs], "input")
    _unique(outputs, "output")
    return Message(_id(fields), tuple(inputs), tuple(outputs))


def render_answer(answer: Answer) -> bytes:
    """Write an answer; orjson gives each FP32 its shortest exact form."""
    document: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    if answer.id is not None:
        document["id"] = answer.id
    document["outputs"] = [
        {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.values.shape),
            "data": _flat(output.values),
        }
        for output in answer.outputs
    ]
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def render_refusal(refusal: RequestRefused, request_id: str) -> bytes:
    """Write an error body: the protocol wants "error", the rest is for logs and programs."""
    return orjson.dumps({"error": refusal.message, "code": refusal.code, "request_id": request_id})


def too_deep(value: Any) -> bool:
    """Tell whether JSON is nested deeper than DEPTH_MAX, one level of lists at a time."""
    level = [value]
    for _ in range(DEPTH_MAX):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.values())
            elif isinstance(item, list) and _nests(item):
                deeper.extend(item)
        if not deeper:
            return False
        level = deeper
    return any(isinstance(item, dict | list) for item in level)


def _nests(items: list[Any]) -> bool:
    """Tell whether a list holds containers; long lists of numbers are passed at C speed."""
    kinds = set(map(type, items))
    return list in kinds or dict in kinds


def _flat(values: Array) -> Any:
    """Return what orjson writes: an array of numbers, or a list of strings."""
    if values.dtype == object:
        return [str(value) for value in values.reshape(-1)]
    return np.ascontiguousarray(values.reshape(-1))


def _input(item: Any) -> InputData:
    fields = _mapping(item, "an input", ("name", "shape", "datatype", "parameters", "data"))
    name = _text(fields, "name", "an input")
    where = f"input {quote(name)}"
    if "binary_data_size" in _parameters(fields, where):
        raise bad_request(f"{where}: binary tensors are not supported; send 'data'")
    return InputData(
        name,
        _text(fields, "datatype", where),
        _shape(fields.get("shape"), where),
        _list(fields.get("data"), f"{where}: 'data'"),
    )


def _output(item: Any) -> str:
    fields = _mapping(item, "an output", ("name", "parameters"))
    name = _text(fields, "name", "an output")
    where = f"output {quote(name)}"
    parameters = _parameters(fields, where)
    if parameters.get("binary_data") is True or "classification" in parameters:
        raise bad_request(f"{where}: neither binary data nor classification is supported")
    return name


def _shape(value: Any, where: str) -> tuple[int, ...]:
    """Check dimensions; Python's integers cannot overflow, and what is large fits no contract."""
    dims = _list(value, f"{where}: 'shape'")
    if any(type(dim) is not int or dim < 0 for dim in dims):
        raise bad_request(f"{where}: 'shape' must be a list of whole numbers from 0 up")
    return tuple(dims)


def _id(fields: Mapping[str, Any]) -> str | None:
    if "id" not in fields:
        return None
    value = fields["id"]
    if type(value) is not str or len(value) > TEXT_MAX:
        raise bad_request(f"'id' must be a string of at most {TEXT_MAX} characters")
    return value


def _parameters(fields: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = fields.get("parameters", {})
    scalars = (str, int, float, bool)
    if type(parameters) is not dict or not all(type(v) in scalars for v in parameters.values()):
        raise bad_request(f"{where}: 'parameters' must map names to strings, numbers or booleans")
    return parameters


def _mapping(value: Any, what: str, known: tuple[str, ...]) -> dict[str, Any]:
    if type(value) is not dict:
        raise bad_request(f"{what} must be a JSON object")
    if unknown := sorted(set(value) - set(known)):
        raise bad_request(f"{what} has an unknown key {quote(unknown[0])}; known: {known}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if type(value) is not list:
        raise bad_request(f"{what} must be a list")
    return value


def _text(fields: Mapping[str, Any], key: str, where: str) -> str:
    value = fields.get(key)
    if type(value) is not str or not 0 < len(value) <= TEXT_MAX:
        raise bad_request(f"{where}: '{key}' must be a string of 1 to {TEXT_MAX} characters")
    return value


def _unique(names: list[str], what: str) -> None:
    if len(names) > TENSORS_MAX:
        raise bad_request(f"more than {TENSORS_MAX} {what}s")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise bad_request(f"{what} {quote(name)} is given twice")
        seen.add(name)
