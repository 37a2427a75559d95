"""ONNX graphs: reduce one to what it computes, put raw columns before its core, answers behind.

A core takes category codes int64 [N, C] and numbers float32 [N, F], and gives scores [N, K]. A
model takes one tensor [N] per raw column, so that no caller ever encodes anything and none can
encode it differently; and it gives what the problem's output contract names.
"""

from collections.abc import Sequence

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from slipway.bundle.contract import InputTensor
from slipway.errors import SlipwayError
from tasks.answers import AXIS, Answering

MODEL = "model.onnx"
CORE = "core.onnx"

CATEGORIES, NUMBERS = "categories", "numbers"
"""What a core calls its two inputs."""

SCORES = "scores"
"""What a core calls its output, [N, K]: logits, or the number itself."""

UNKNOWN = 0
"""The code of a value outside the vocabulary, and of a missing one."""

ENCODER_OPSET = 4
"""ai.onnx.ml version that LabelEncoder is written in at least; part of the bytes."""

ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "BYTES": TensorProto.STRING,
    "FP32": TensorProto.FLOAT,
    "INT64": TensorProto.INT64,
}
"""The datatypes of answers."""


def reduce(model: ModelProto) -> ModelProto:
    """Drop everything that a session does not compute with.

    Exporters leave source paths and traces in it, which differ between checkouts; left-over
    `value_info` breaks quantization; quantizers import domains that no node uses.
    """
    small = ModelProto()
    small.CopyFrom(model)
    for field in ("metadata_props", "doc_string", "producer_name", "producer_version"):
        small.ClearField(field)
    used = _reduce_graph(small.graph) | {""}
    imports = [entry for entry in small.opset_import if entry.domain in used]
    small.ClearField("opset_import")
    small.opset_import.extend(sorted(imports, key=lambda entry: entry.domain))
    return small


def assemble(core: ModelProto, inputs: Sequence[InputTensor], answering: Answering) -> ModelProto:
    """Put one input per raw column before a core, and the answers behind it.

    The core's own names get a prefix, since a column may be called like one of them.
    """
    outputs = answering.outputs("")
    names = [column.name for column in inputs]
    if taken := sorted({output.name for output in outputs} & set(names)):
        raise SlipwayError(
            f"a column cannot be called {', '.join(map(repr, taken))}: that is an output's name;"
            " rename it in ingest.query"
        )
    inner = onnx.compose.add_prefix(core, prefix="core/")
    categories = [column for column in inputs if column.kind == "category"]
    numbers = [column for column in inputs if column.kind == "number"]
    before = [node for column in categories for node in _encode(column)]
    before += [_as_column(column.name, f"column/{column.name}") for column in numbers]
    before += _side_by_side(categories, CATEGORIES) + _side_by_side(numbers, NUMBERS)
    after, constants = answering.nodes(f"core/{SCORES}")
    kinds = {"category": TensorProto.STRING, "number": TensorProto.FLOAT}
    graph = helper.make_graph(
        [*before, *inner.graph.node, *after],
        "model",
        [
            helper.make_tensor_value_info(name, kinds[column.kind], ["rows"])
            for name, column in zip(names, inputs, strict=True)
        ],
        [
            helper.make_tensor_value_info(
                output.name, ONNX_TYPES[output.datatype], ["rows", *output.shape[1:]]
            )
            for output in outputs
        ],
        [
            *inner.graph.initializer,
            helper.make_tensor(AXIS, TensorProto.INT64, [1], [1]),
            *constants,
        ],
    )
    opsets = {entry.domain: entry.version for entry in inner.opset_import}
    opsets["ai.onnx.ml"] = max(ENCODER_OPSET, opsets.get("ai.onnx.ml", 0))
    model = helper.make_model(
        graph,
        functions=list(inner.functions),
        ir_version=inner.ir_version,
        opset_imports=[helper.make_opsetid(d, v) for d, v in sorted(opsets.items())],
    )
    model = reduce(model)
    onnx.checker.check_model(model, full_check=False)
    return model


def to_bytes(model: ModelProto) -> bytes:
    """Serialise a graph, weights inline, equal bytes for equal graphs."""
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _reduce_graph(graph: GraphProto) -> set[str]:
    """Reduce a graph and the graphs inside its nodes; return the domains in use."""
    for field in ("metadata_props", "doc_string", "value_info"):
        graph.ClearField(field)
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    used = set()
    for node in graph.node:
        used.add(node.domain)
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                used |= _reduce_graph(attribute.g)
    return used


def _encode(column: InputTensor) -> list[NodeProto]:
    """Turn strings into codes: the vocabulary's i-th value is i + 1, anything else 0."""
    vocabulary = column.categories or []
    if "" in vocabulary:
        raise SlipwayError(f"column {column.name!r}: an empty string is no category, it is missing")
    codes = helper.make_node(
        "LabelEncoder",
        [column.name],
        [f"code/{column.name}"],
        domain="ai.onnx.ml",
        # "" stands in the table too: an encoder without any key is not valid
        keys_strings=["", *vocabulary],
        values_int64s=range(len(vocabulary) + 1),
        default_int64=UNKNOWN,
    )
    return [codes, _as_column(f"code/{column.name}", f"column/{column.name}")]


def _as_column(name: str, column: str) -> NodeProto:
    return helper.make_node("Unsqueeze", [name, AXIS], [column])


def _side_by_side(columns: Sequence[InputTensor], name: str) -> list[NodeProto]:
    """Join the columns of a kind; where there are none, the core asks for none."""
    if not columns:
        return []
    parts = [f"column/{column.name}" for column in columns]
    return [helper.make_node("Concat", parts, [f"core/{name}"], axis=1)]
