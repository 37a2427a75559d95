"""Read and write the Open Inference Protocol V2 over HTTP: JSON and the binary tensor extension.

Knows the protocol, not the model: that a tensor fits its contract is `admission`'s business.
Strict where the specification leaves a choice: a key that it does not name, a key given twice,
a number that is not finite and bytes that no tensor claims are refused, because a request that
is half understood gets an answer that is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from slipway.bundle.datatypes import as_numbers
from slipway.bundle.format import parse_json
from slipway.host.request.binary import encode
from slipway.host.request.message import (
    TENSORS_MAX,
    TEXT_MAX,
    Answer,
    Array,
    InputData,
    Message,
    OutputData,
)
from slipway.host.request.refusal import RequestRefused, bad_request, quote

DEPTH_MAX: Final = 64
"""Deepest JSON. orjson stops by itself at 1,024, so measuring the depth below is safe."""

CONTAINERS_MAX: Final = 262_144
ELEMENTS_MAX: Final = 4_194_304
"""Of one body of JSON. As Python objects 16 MiB of `[],` would take forty times the memory; who
has more to say sends binary tensors."""

KEYS: Final = ("id", "model_name", "parameters", "inputs", "outputs")
"""Of a request."""

NOT_JSON: Final = "the body is not JSON (RFC 8259, no key twice, at most 64 levels deep)"

UINT64_MAX: Final = 2**64 - 1


@dataclass(slots=True)
class AnswerFormat:
    """Which outputs a caller wants as binary tensors."""

    binary: bool = False
    """Those that `outputs` does not speak of."""
    outputs: Mapping[str, bool] | None = None

    def wants(self, output: str) -> bool:
        """Tell whether this output goes as bytes."""
        return self.outputs.get(output, self.binary) if self.outputs else self.binary


def read_message(
    body: bytes | bytearray, header_length: int | None = None, model: str | None = None
) -> tuple[Message, AnswerFormat]:
    """Read a request body; raise RequestRefused, and nothing else, on anything malformed.

    `header_length` is the length of the JSON; binary tensors follow it, in its order. KServe's
    client names the model in the body too, which then must be the one of the path.
    """
    length = len(body) if header_length is None else header_length
    if length > len(body):
        raise bad_request("Inference-Header-Content-Length is more than the body has")
    text = body if length == len(body) else body[:length]
    document = read_json(text)
    fields = _mapping(document, "the request", KEYS)
    if "model_name" in fields and _text(fields, "model_name", "the request") != model:
        raise bad_request("'model_name' is not the model of the path")
    parameters = _parameters(fields, "the request")
    form = AnswerFormat(_flag(parameters, "binary_data_output", "the request"))
    tensors = _Tensors(memoryview(body)[length:], header_length is not None)
    inputs = [_input(item, tensors) for item in _list(fields.get("inputs"), "'inputs'")]
    tensors.check_end()
    outputs = [_output(item, form) for item in _list(fields.get("outputs", []), "'outputs'")]
    _unique([i.name for i in inputs], "input")
    _unique(outputs, "output")
    timeout_us = _whole(parameters, "timeout")
    priority = _whole(parameters, "priority")
    if sequence := sorted(name for name in parameters if name.startswith("sequence_")):
        raise bad_request(f"this model keeps no state: leave out {quote(sequence[0])}")
    message = Message(
        _id(fields), tuple(inputs), tuple(outputs), timeout_us=timeout_us, priority=priority
    )
    return message, form


def read_json(text: bytes | bytearray) -> Any:
    """Read JSON strictly.

    orjson lets the last of two equal keys win, as other parsers let the first: what two
    readers understand differently is refused. Only a document that can hold such a pair, one
    with more quoted keys than orjson returned, is read again by a slower, stricter parser.
    """
    if text.count(b"[") + text.count(b"{") > CONTAINERS_MAX or text.count(b",") > ELEMENTS_MAX:
        raise RequestRefused("too_large", f"the JSON has more than {ELEMENTS_MAX:,} elements")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise bad_request(NOT_JSON) from None
    if too_deep(document):
        raise bad_request(NOT_JSON)
    if text.count(b":") != _count_keys(document):
        try:
            parse_json(bytes(text))
        except ValueError:
            raise bad_request(NOT_JSON) from None
    return document


def render_answer(answer: Answer, form: AnswerFormat | None = None) -> tuple[bytes, int | None]:
    """Write an answer; return it and, if it holds binary tensors, the length of its JSON.

    orjson gives each FP32 its shortest exact form.
    """
    form = form or AnswerFormat()
    document: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    if answer.id is not None:
        document["id"] = answer.id
    document["outputs"] = outputs = []
    tensors = []
    for output in answer.outputs:
        item: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.values.shape),
        }
        if form.wants(output.name):
            tensors.append(encode(output.values, output.datatype))
            item["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            item["data"] = _flat(output)
        outputs.append(item)
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((text, *tensors)), len(text)) if tensors else (text, None)


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


class _Tensors:
    """Hands out the bytes behind the JSON, in its order, every byte once."""

    def __init__(self, data: memoryview, allowed: bool) -> None:
        self._data = data
        self._allowed = allowed
        self._position = 0

    def take(self, size: Any, where: str) -> memoryview:
        """Return the next tensor's bytes."""
        if type(size) is not int or size < 0:
            raise bad_request(f"{where}: 'binary_data_size' must be a whole number from 0 up")
        if not self._allowed:
            raise bad_request(f"{where}: binary data needs Inference-Header-Content-Length")
        end = self._position + size
        if end > len(self._data):
            raise bad_request(f"{where}: 'binary_data_size' is more than the body has left")
        taken, self._position = self._data[self._position : end], end
        return taken

    def check_end(self) -> None:
        """Refuse bytes that belong to no tensor."""
        if self._position != len(self._data):
            raise bad_request("the body has more bytes than its binary tensors")


def _count_keys(value: Any) -> int:
    """Count the keys of the objects that a request has; anything else makes it a mismatch."""
    if type(value) is not dict:
        return 0
    keys = len(value)
    parts = [value.get("inputs"), value.get("outputs"), [value]]
    for item in (item for part in parts if type(part) is list for item in part):
        if type(item) is dict:
            keys += len(item) if item is not value else 0
            parameters = item.get("parameters")
            keys += len(parameters) if type(parameters) is dict else 0
    return keys


def _nests(items: list[Any]) -> bool:
    """Tell whether a list holds containers; long lists of numbers are passed at C speed."""
    kinds = set(map(type, items))
    return list in kinds or dict in kinds


def _flat(output: OutputData) -> Any:
    """Return what orjson writes: an array of numbers, or a list of strings."""
    values: Array = output.values.reshape(-1)
    if output.datatype == "BYTES":
        return [str(value) for value in values]
    return np.ascontiguousarray(as_numbers(values, output.datatype))


def _input(item: Any, tensors: _Tensors) -> InputData:
    fields = _mapping(item, "an input", ("name", "shape", "datatype", "parameters", "data"))
    name = _text(fields, "name", "an input")
    where = f"input {quote(name)}"
    datatype = _text(fields, "datatype", where)
    shape = _shape(fields.get("shape"), where)
    parameters = _parameters(fields, where)
    _refuse_shared_memory(parameters, where)
    if "binary_data_size" not in parameters:
        return InputData(name, datatype, shape, _list(fields.get("data"), f"{where}: 'data'"))
    if "data" in fields:
        raise bad_request(f"{where}: give either 'data' or 'binary_data_size'")
    return InputData(name, datatype, shape, tensors.take(parameters["binary_data_size"], where))


def _output(item: Any, form: AnswerFormat) -> str:
    fields = _mapping(item, "an output", ("name", "parameters"))
    name = _text(fields, "name", "an output")
    where = f"output {quote(name)}"
    parameters = _parameters(fields, where)
    _refuse_shared_memory(parameters, where)
    if _whole(parameters, "classification"):
        raise bad_request(f"{where}: classification is not supported")
    if "binary_data" in parameters:
        wanted = _flag(parameters, "binary_data", where)
        form.outputs = {**(form.outputs or {}), name: wanted}
    return name


def _refuse_shared_memory(parameters: Mapping[str, Any], where: str) -> None:
    if "shared_memory_region" in parameters:
        raise bad_request(f"{where}: shared memory is not supported")


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


def _flag(parameters: Mapping[str, Any], name: str, where: str) -> bool:
    value = parameters.get(name, False)
    if type(value) is not bool:
        raise bad_request(f"{where}: '{name}' must be true or false")
    return value


def _whole(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value <= UINT64_MAX:
        raise bad_request(f"'{name}' must be a whole number from 0 up")
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
