"""Look through an ONNX file for what no host may load, without the onnx package.

A host has ONNX Runtime only. ONNX Runtime reads external data from paths relative to the
working folder even when the model is given as bytes, and follows hard links while doing so
(four CVEs in four years); some of its operators name files or code. So the file is walked
here first. This reads protobuf's wire format by a table of the message fields that can lead
to a node or a tensor, and steps over everything else, weights included, without copying.
"""

from collections.abc import Iterator
from dataclasses import dataclass

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operators of the standard and those that ONNX Runtime's own quantizer writes."""

OPERATORS_REFUSED = frozenset({"PyOp", "EPContext"})
"""Of com.microsoft: one runs Python code, the other loads a file that its attribute names."""

MESSAGES = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
"""Field numbers of onnx.proto (ONNX 1.23) that lead from the model to nodes and tensors."""

NODE_OPERATOR, NODE_DOMAIN = 4, 7
TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 13, 14
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class _Field:
    number: int
    wire: int
    value: int
    body: memoryview


def check_graph(model: bytes) -> None:
    """Raise ValueError for external data, foreign operators, or what is no ONNX file."""
    waiting = [("Model", memoryview(model))]
    nodes = 0
    while waiting:
        kind, message = waiting.pop()
        fields = list(_fields(message))
        if kind == "Node":
            _check_operator(fields)
            nodes += 1
        if kind == "Tensor":
            _check_tensor(fields)
        inner = MESSAGES[kind]
        waiting += [
            (inner[f.number], f.body) for f in fields if f.wire == BYTES and f.number in inner
        ]
    if not nodes:
        raise ValueError("no ONNX file: no graph with operators in it")


def _check_operator(fields: list[_Field]) -> None:
    text = {f.number: bytes(f.body) for f in fields if f.wire == BYTES}  # the last one counts
    operator = text.get(NODE_OPERATOR, b"").decode("utf-8", "replace")
    domain = text.get(NODE_DOMAIN, b"").decode("utf-8", "replace")
    if domain not in DOMAINS:
        raise ValueError(f"operator {operator!r} is of domain {domain!r}, which no host runs")
    if operator in OPERATORS_REFUSED:
        raise ValueError(f"operator {operator!r} reaches outside the model")


def _check_tensor(fields: list[_Field]) -> None:
    for field in fields:
        if field.number == TENSOR_EXTERNAL_DATA and field.wire == BYTES:
            raise ValueError("holds external data: all weights must be inside")
        if field.number == TENSOR_DATA_LOCATION and field.wire == VARINT and field.value:
            raise ValueError("holds external data: all weights must be inside")


def _fields(message: memoryview) -> Iterator[_Field]:
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        value, size = 0, 0
        if wire == VARINT:
            value, position = _varint(message, position)
        elif wire == BYTES:
            size, position = _varint(message, position)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"no ONNX file: wire type {wire}")
        if number == 0 or key >= 1 << 32 or size > len(message) - position:
            raise ValueError("no ONNX file: cut short or damaged")
        yield _Field(number, wire, value, message[position : position + size])
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position == len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("no ONNX file: cut short or damaged")
