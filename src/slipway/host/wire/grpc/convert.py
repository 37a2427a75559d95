"""Read ModelInfer's request, write its response.

Knows the protocol, not the model. An input's bytes go on as they came: that they have the size
of their shape is judged where every other encoding is judged too.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import numpy as np

from slipway.bundle.datatypes import DTYPES, Datatype
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
from slipway.host.request.refusal import bad_request, quote
from slipway.host.wire.grpc.schema import message_class

FIELDS: Final[Mapping[str, str]] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where typed contents of a datatype stand; FP16 and BF16 have no field and are sent raw."""

Response: Final = message_class("ModelInferResponse")


def read_message(request: Any, remaining_s: float | None = None) -> Message:
    """Read a ModelInferRequest; raise RequestRefused, and nothing else, on anything malformed.

    A deadline of the call is a timeout too: what is left of it, if it is the shorter.
    """
    if max(len(request.inputs), len(request.outputs)) > TENSORS_MAX:
        raise bad_request(f"more than {TENSORS_MAX} inputs or outputs")
    raw = request.raw_input_contents
    inputs = _read_raw(request.inputs, raw) if raw else tuple(map(_read_typed, request.inputs))
    outputs = tuple(map(_read_output, request.outputs))
    _check_unique(tuple(item.name for item in inputs), "input")
    _check_unique(outputs, "output")
    if len(request.id) > TEXT_MAX:
        raise bad_request(f"'id' must have at most {TEXT_MAX} characters")
    timeout_us, priority = _read_parameters(request.parameters)
    if remaining_s is not None:
        left_us = max(1, int(remaining_s * 1e6))
        timeout_us = min(timeout_us or left_us, left_us)
    return Message(request.id or None, inputs, outputs, timeout_us=timeout_us, priority=priority)


def render_answer(answer: Answer, raw: bool) -> bytes:
    """Write an answer in the form of the request; what has no typed form is raw, and all with it.

    The protocol allows no mixture.
    """
    response = Response(model_name=answer.model, model_version=answer.version, id=answer.id or "")
    raw = raw or any(output.datatype not in FIELDS for output in answer.outputs)
    for output in answer.outputs:
        tensor = response.outputs.add(
            name=output.name, datatype=output.datatype, shape=output.values.shape
        )
        if raw:
            response.raw_output_contents.append(encode(output.values, output.datatype))
        else:
            getattr(tensor.contents, FIELDS[output.datatype]).extend(_elements(output))
    written: bytes = response.SerializeToString()
    return written


def _read_raw(tensors: Any, raw: Any) -> tuple[InputData, ...]:
    if len(raw) != len(tensors):
        raise bad_request(
            f"raw_input_contents must hold one entry per input: {len(tensors)}, got {len(raw)}"
        )
    inputs = []
    for tensor, data in zip(tensors, raw, strict=True):
        if tensor.HasField("contents"):
            raise bad_request(f"{_where(tensor)}: has contents beside raw_input_contents")
        inputs.append(_input(tensor, data))
    return tuple(inputs)


def _read_typed(tensor: Any) -> InputData:
    where, datatype = _where(tensor), tensor.datatype
    if datatype not in DTYPES:
        raise bad_request(f"{where}: unknown datatype {quote(datatype)}")
    if (wanted := FIELDS.get(datatype)) is None:
        raise bad_request(f"{where}: {datatype} has no typed contents; send raw_input_contents")
    if wrong := [field.name for field, _ in tensor.contents.ListFields() if field.name != wanted]:
        raise bad_request(f"{where}: {datatype} is sent in {wanted}, got {quote(wrong[0])}")
    values = getattr(tensor.contents, wanted)
    if datatype == "BYTES":
        return _input(tensor, _text(values, where))
    return _input(tensor, _numbers(list(values), datatype, where))


def _input(tensor: Any, data: Any) -> InputData:
    shape = tuple(tensor.shape)
    if shape and min(shape) < 0:
        raise bad_request(f"{_where(tensor)}: 'shape' must be whole numbers from 0 up")
    if "shared_memory_region" in tensor.parameters:
        raise bad_request(f"{_where(tensor)}: shared memory is not supported")
    return InputData(_name(tensor, "input"), tensor.datatype, shape, data)


def _read_output(tensor: Any) -> str:
    name = _name(tensor, "output")
    if "shared_memory_region" in tensor.parameters:
        raise bad_request(f"output {quote(name)}: shared memory is not supported")
    if _whole(tensor.parameters, "classification"):
        raise bad_request(f"output {quote(name)}: classification is not supported")
    return name


def _where(tensor: Any) -> str:
    return f"input {quote(tensor.name)}"


def _numbers(values: list[Any], datatype: str, where: str) -> Array:
    """Make an array; the small integers share a field that holds more than they do."""
    dtype = DTYPES[cast(Datatype, datatype)]
    if dtype.itemsize < 4 and datatype != "BOOL" and values:
        limits = np.iinfo(dtype)
        if min(values) < limits.min or max(values) > limits.max:
            raise bad_request(f"{where}: a value does not fit {datatype}")
    return np.array(values, dtype=dtype)


def _text(values: Any, where: str) -> Array:
    try:
        return np.array([value.decode() for value in values], dtype=object)
    except UnicodeDecodeError:
        raise bad_request(f"{where}: a string must be UTF-8") from None


def _elements(output: OutputData) -> list[Any]:
    values: list[Any] = output.values.reshape(-1).tolist()
    if output.datatype != "BYTES":
        return values
    return [value if isinstance(value, bytes) else str(value).encode() for value in values]


def _name(tensor: Any, what: str) -> str:
    name: str = tensor.name
    if not 0 < len(name) <= TEXT_MAX:
        raise bad_request(f"the name of an {what} must have 1 to {TEXT_MAX} characters")
    return name


def _read_parameters(parameters: Any) -> tuple[int, int]:
    """Return timeout and priority; a parameter that names nothing here is ignored."""
    if not parameters:
        return 0, 0
    if sequence := sorted(name for name in parameters if name.startswith("sequence_")):
        raise bad_request(f"this model keeps no state: leave out {quote(sequence[0])}")
    return _whole(parameters, "timeout"), _whole(parameters, "priority")


def _whole(parameters: Any, name: str) -> int:
    """Return a parameter that must be a whole number, 0 if it is not given."""
    if name not in parameters:
        return 0
    parameter = parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, kind) if kind in ("int64_param", "uint64_param") else -1
    if value < 0:
        raise bad_request(f"'{name}' must be a whole number from 0 up")
    return int(value)


def _check_unique(names: tuple[str, ...], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise bad_request(f"{what} {quote(name)} is given twice")
        seen.add(name)
