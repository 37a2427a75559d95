"""Requests as they are meant, right or wrong, and the three encodings that say each of them."""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from slipway.bundle.datatypes import DTYPES, FLOATS, bf16_to_float, float_to_bf16
from slipway.host.wire.grpc.convert import FIELDS
from slipway.host.wire.grpc.schema import message_class

TEXTS = ("", "a", "AA", "é", "日本", "\0", '"', "]", '"data":[1]', "\\", "\u2028", "x" * 300)
BROKEN = b"\xff\xfe"
"""Stands for a string that is no UTF-8."""

ModelInferRequest = message_class("ModelInferRequest")


@dataclass
class Tensor:
    """One input: what it is said to be, and its elements of the datatype `kind`."""

    name: str
    kind: str
    shape: list[int]
    elements: list[Any]
    datatype: str
    parameters: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the binary form of the elements."""
        if self.kind == "BYTES":
            texts = [e if isinstance(e, bytes) else str(e).encode() for e in self.elements]
            return b"".join(struct.pack("<I", len(text)) + text for text in texts)
        if self.kind == "BF16":
            return float_to_bf16(np.array(self.elements, np.float32)).tobytes()
        dtype = np.uint8 if self.kind == "BOOL" else DTYPES[self.kind]  # type: ignore[index]
        return np.array(self.elements, dtype).tobytes()


@dataclass
class Logical:
    """One request as it is meant."""

    model: str
    inputs: list[Tensor]
    version: str = ""
    id: str | None = None
    outputs: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    """The outputs that the model has."""

    @property
    def path(self) -> str:
        """The path over HTTP."""
        version = f"/versions/{self.version}" if self.version else ""
        return f"/v2/models/{self.model}{version}/infer"


def as_json(asked: Logical, random: Random) -> bytes:
    """Write a request as JSON, flat or nested."""
    items = []
    for tensor in asked.inputs:
        data = _nest([_literal(e, tensor.kind) for e in tensor.elements], tensor.shape, random)
        fields = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype}
        if tensor.parameters:
            fields["parameters"] = tensor.parameters
        items.append(json.dumps(fields)[:-1].encode() + b',"data":' + data + b"}")
    rest = json.dumps(_rest(asked))[1:].encode()
    return b'{"inputs":[%b]%b%b' % (b",".join(items), b"," if len(rest) > 1 else b"", rest)


def as_binary(asked: Logical) -> tuple[bytes, int]:
    """Write a request as binary tensors; return the length of the JSON too."""
    items, tensors = [], []
    for tensor in asked.inputs:
        tensors.append(tensor.encode())
        parameters = {**tensor.parameters, "binary_data_size": len(tensors[-1])}
        fields = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype}
        items.append({**fields, "parameters": parameters})
    text = json.dumps({"inputs": items, **_rest(asked)}).encode()
    return text + b"".join(tensors), len(text)


def as_grpc(asked: Logical, raw: bool) -> Any:
    """Write a request as a message, in typed contents where that is possible and wanted."""
    broken = any(
        BROKEN in t.elements or (t.kind == "BOOL" and 2 in t.elements) for t in asked.inputs
    )
    raw = raw or broken or any(tensor.kind not in FIELDS for tensor in asked.inputs)
    inputs, contents = [], []
    for tensor in asked.inputs:
        item: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype,
                                "shape": tensor.shape,
                                "parameters": _parameters(tensor.parameters)}  # fmt: skip
        if raw:
            contents.append(tensor.encode())
        else:
            text = tensor.kind == "BYTES"
            elements = [e.encode() for e in tensor.elements] if text else tensor.elements
            item["contents"] = {FIELDS[tensor.kind]: elements}
        inputs.append(item)
    return ModelInferRequest(
        model_name=asked.model,
        model_version=asked.version,
        id=asked.id or "",
        inputs=inputs,
        raw_input_contents=contents,
        outputs=[{"name": n, "parameters": _parameters(p)} for n, p in asked.outputs],
        parameters=_parameters(asked.parameters),
    )


def make_logical(random: Random, models: dict[str, dict[str, Any]]) -> Logical:
    """Make a request to one of the models, given by their metadata; half of them are wrong."""
    model = random.choice(sorted(models))
    metadata = models[model]
    rows = random.choice((1, 1, 2, 3, 5))
    inputs = []
    for tensor in metadata["inputs"]:
        shape = [rows if d == -1 and not n else 2 if d == -1 else d
                 for n, d in enumerate(tensor["shape"])]  # fmt: skip
        kind = tensor["datatype"]
        elements = [make_element(random, kind) for _ in range(math.prod(shape))]
        inputs.append(Tensor(tensor["name"], kind, shape, elements, kind))
    names = [output["name"] for output in metadata["outputs"]]
    asked = Logical(model, inputs, known=names)
    if random.random() < 0.5:
        asked.id = random.choice(("", "7", "é", '"', "x" * 256))
    if random.random() < 0.3:
        asked.outputs = [(n, {}) for n in random.sample(names, random.randint(1, len(names)))]
    if random.random() < 0.2:
        asked.parameters = {"timeout": 60_000_000, "priority": random.choice((0, 1, 2)), "p": "q"}
    if random.random() < 0.6:
        name = random.choice(sorted(FAULTS))
        asked.faults.append(name)
        if name.startswith("an output"):
            asked.outputs.clear()  # one fault at a time
        FAULTS[name](random, asked)
    return asked


def make_element(random: Random, kind: str) -> Any:
    """Make one element that the datatype holds, often at its limits."""
    if kind == "BYTES":
        return random.choice(TEXTS)
    if kind == "BOOL":
        return random.random() < 0.5
    if kind in FLOATS:
        value = random.choice((0.0, -0.0, 1.5, -2.0, 1e-7, 60_000.0, random.uniform(-9, 9)))
        if kind == "BF16":
            return float(bf16_to_float(float_to_bf16(np.array([value])))[0])
        return float(DTYPES[kind].type(value))  # type: ignore[index]
    limits = np.iinfo(DTYPES[kind])  # type: ignore[index]
    return random.choice(
        (int(limits.min), int(limits.max), 0, 1, random.randint(limits.min, limits.max))
    )


def _literal(element: Any, kind: str) -> bytes:
    """Write an element as JSON; what JSON cannot say is said by its nearest."""
    if isinstance(element, bytes):
        return b'"' + element + b'"'
    if kind in FLOATS and not math.isfinite(element):
        return b"null" if math.isnan(element) else b"1e999"
    return json.dumps(element).encode()


def _nest(elements: list[bytes], shape: list[int], random: Random) -> bytes:
    rows = shape[0] if shape else 0
    if len(shape) < 2 or rows < 1 or math.prod(shape) != len(elements) or random.random() < 0.5:
        return b"[%b]" % b",".join(elements)
    width = len(elements) // rows
    parts = [elements[n * width : (n + 1) * width] for n in range(rows)]
    return b"[%b]" % b",".join(_nest(part, shape[1:], random) if len(shape) > 2
                               else b"[%b]" % b",".join(part) for part in parts)  # fmt: skip


def _rest(asked: Logical) -> dict[str, Any]:
    rest: dict[str, Any] = {}
    if asked.id is not None:
        rest["id"] = asked.id
    if asked.outputs:
        rest["outputs"] = [
            {"name": name} | ({"parameters": p} if p else {}) for name, p in asked.outputs
        ]
    if asked.parameters:
        rest["parameters"] = asked.parameters
    return rest


def _parameters(values: dict[str, Any]) -> dict[str, Any]:
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    return {name: {kinds[type(value)]: value} for name, value in values.items()}


# --- faults: each is the same in every encoding


def _tensor(change: Callable[[Random, Tensor], None]) -> Callable[[Random, Logical], None]:
    def fault(random: Random, asked: Logical) -> None:
        change(random, random.choice(asked.inputs))

    return fault


def _shape(change: Callable[[Random, list[int]], list[int]]) -> Callable[[Random, Logical], None]:
    def fault(random: Random, tensor: Tensor) -> None:
        tensor.shape = change(random, tensor.shape)

    return _tensor(fault)


def _replace(random: Random, shape: list[int], dim: int) -> list[int]:
    at = random.randrange(len(shape))
    return [dim if n == at else d for n, d in enumerate(shape)]


def _spoil(random: Random, tensor: Tensor) -> None:
    """Put an element in that is of no value."""
    at = random.randrange(len(tensor.elements))
    if tensor.kind == "BYTES":
        tensor.elements[at] = BROKEN
    elif tensor.kind == "BOOL":
        tensor.elements[at] = 2
    elif tensor.kind in FLOATS:
        tensor.elements[at] = random.choice((math.inf, -math.inf, math.nan))


def _rows(random: Random, tensor: Tensor) -> None:
    """Say and send more rows than any model takes."""
    tensor.shape = [100_001, *tensor.shape[1:]]
    tensor.elements = tensor.elements[:1]


def _relabel(random: Random, tensor: Tensor) -> None:
    tensor.datatype = random.choice(sorted({*DTYPES} - {tensor.kind}))


def _set(tensor: Tensor, name: str, value: Any) -> None:
    setattr(tensor, name, value)


FAULTS: dict[str, Callable[[Random, Logical], None]] = {
    "unknown model": lambda random, asked: setattr(asked, "model", "nope"),
    "unknown version": lambda random, asked: setattr(asked, "version", "9" * 64),
    "short version": lambda random, asked: setattr(asked, "version", "1"),
    "no inputs": lambda random, asked: asked.inputs.clear(),
    "an input left out": lambda random, asked: asked.inputs.pop(),
    "an input twice": lambda random, asked: asked.inputs.append(asked.inputs[0]),
    "an input renamed": _tensor(lambda random, tensor: _set(tensor, "name", "zz")),
    "an input without a name": _tensor(lambda random, tensor: _set(tensor, "name", "")),
    "an endless name": _tensor(lambda random, tensor: _set(tensor, "name", "x" * 257)),
    "a datatype of no meaning": _tensor(lambda random, tensor: _set(tensor, "datatype", "FP99")),
    "no datatype": _tensor(lambda random, tensor: _set(tensor, "datatype", "")),
    "another datatype": _tensor(_relabel),
    "another rank": _shape(lambda random, shape: [*shape, 1]),
    "no rank": _shape(lambda random, shape: []),
    "a negative dimension": _shape(lambda random, shape: _replace(random, shape, -1)),
    "a dimension of 0": _shape(lambda random, shape: _replace(random, shape, 0)),
    "a dimension too large": _shape(lambda random, shape: _replace(random, shape, 2**62)),
    "another dimension": _shape(lambda random, shape: _replace(random, shape, 7)),
    "too many rows": _tensor(_rows),
    "an element too few": _tensor(lambda random, tensor: tensor.elements.pop()),
    "an element too many": _tensor(
        lambda random, tensor: tensor.elements.append(tensor.elements[0])
    ),
    "an element of no value": _tensor(_spoil),
    "unknown output": lambda random, asked: asked.outputs.append(("nope", {})),
    "an output twice": lambda random, asked: asked.outputs.extend([(asked.known[0], {})] * 2),
    "an output without a name": lambda random, asked: asked.outputs.append(("", {})),
    "an output classified": lambda random, asked: asked.outputs.append(
        (asked.known[0], {"classification": random.choice((2, -1, True, False, "3", 0.0))})
    ),
    "an output elsewhere": lambda random, asked: asked.outputs.append(
        (asked.known[0], {"shared_memory_region": "r"})
    ),
    "an input elsewhere": _tensor(
        lambda random, tensor: tensor.parameters.update(shared_memory_region="r")
    ),
    "a sequence": lambda random, asked: asked.parameters.update(sequence_id=1),
    "a timeout of no meaning": lambda random, asked: asked.parameters.update(
        timeout=random.choice((-1, True, "1", 1.0))
    ),
    "a priority of no meaning": lambda random, asked: asked.parameters.update(
        priority=random.choice((-1, False, "1", 0.5))
    ),
    "an endless id": lambda random, asked: setattr(asked, "id", "é" * 257),
}  # fmt: skip
