"""Signed bundles of small models of any tensors, wrapped as `slipway bundle onnx` does it.

types     Identity of each of the 13 datatypes of the protocol: `in_FP32` -> `out_FP32`, [-1, 2]
bf16      Identity of BF16: `x` -> `y`, [-1, 2]
mlp       `x` FP32 [-1, 64] -> `y` FP32 [-1, 10]
gather    `index` INT64 [-1] -> `y` FP32 [-1]; raises unless -10 <= index < 10
fixed     `x` FP32 [1, 4] -> `y` FP32 [1, 2]: takes one row per request, is not batchable
tokens    `ids`, `mask` INT64 [-1, -1] -> `mean` FP32 [-1], `each` FP32 [-1, -1]: golden rows of
          several lengths; padded to 4, 8 or 16 where `padded` is asked for
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from slipway.bundle.contract import Padding
from slipway.bundle.datatypes import DTYPES
from slipway.make.wrap.request import WrapRequest
from slipway.make.wrap.wrap import Wrapped, wrap_onnx
from tests.bundles import Keys, make_keys

V2_DATATYPES = tuple(name for name in DTYPES if name != "BF16")

ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}

TOKENS_PADDING = {name: Padding(axis=1, value=0, buckets=[4, 8, 16]) for name in ("ids", "mask")}


def make_tensor_bundle(
    folder: Path,
    kind: str = "types",
    name: str | None = None,
    keys: Keys | None = None,
    seed: int = 0,
    padded: bool = False,
    **request: Any,
) -> Wrapped:
    """Make a whole signed bundle in a folder that does not exist yet.

    Without keys, they are made beside the folder. Another `seed` is another version; `request`
    overrides fields of WrapRequest, such as max_rows.
    """
    keys = keys or make_keys(folder.parent / "keys")
    source = folder.parent / f"{folder.name}-source"
    source.mkdir(parents=True)
    (source / "model.onnx").write_bytes(make_onnx(kind, seed))
    rows = write_rows(source, kind)
    if padded:
        request["paddings"] = TOKENS_PADDING
    asked = {
        "model": source / "model.onnx",
        "rows": rows,
        "name": name or kind,
        "out": folder,
        "key": keys.builder,
        "max_rows": 64,
        **request,
    }
    return wrap_onnx(WrapRequest(**asked))


def write_rows(folder: Path, kind: str) -> Path:
    """Write the golden rows of a kind into a file and return its path."""
    if kind == "tokens":
        path = folder / "rows.jsonl"
        path.write_text("\n".join(json.dumps(token_request(n)) for n in (3, 4, 7, 3, 12, 1)))
        return path
    path = folder / "rows.npz"
    np.savez(path, **golden_arrays(kind))
    return path


def golden_arrays(kind: str, rows: int = 12) -> dict[str, np.ndarray]:
    """Return golden rows by input, as they are saved: BF16 as bits, text as numpy's own."""
    random = np.random.default_rng(7)
    if kind == "types":
        return {f"in_{each}": random_tensor(random, each, (rows, 2)) for each in V2_DATATYPES}
    if kind == "bf16":
        return {"x": random_tensor(random, "BF16", (rows, 2))}
    if kind == "gather":
        return {"index": np.arange(rows) % 10}
    width = {"mlp": 64, "fixed": 4}[kind]
    return {"x": random.normal(size=(rows, width)).astype(np.float32)}


def random_tensor(random: np.random.Generator, datatype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return values from all over a datatype's range."""
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        texts = ["", "a", "Übung", "日本", "a\tb\nc", "x" * 300, '"quoted"']
        return random.choice(np.array(texts), shape)
    if datatype == "BOOL":
        return random.random(shape) < 0.5
    if datatype == "BF16":
        return random.integers(0x3F00, 0x4100, shape, np.uint16)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return (random.normal(size=shape) * 100).astype(dtype)


def token_request(length: int) -> dict[str, Any]:
    """Return one V2 request of one row of so many tokens."""
    tensors = {"ids": [(7 * i) % 20 + 1 for i in range(length)], "mask": [1] * length}
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [1, length], "data": data}
        for name, data in tensors.items()
    ]
    return {"inputs": inputs}


def make_onnx(kind: str, seed: int = 0) -> bytes:
    """Make the ONNX file of a kind."""
    random = np.random.default_rng(seed)
    makers = {
        "types": lambda: _identity({f"in_{d}": (f"out_{d}", d) for d in V2_DATATYPES}, seed),
        "bf16": lambda: _identity({"x": ("y", "BF16")}, seed),
        "mlp": lambda: _mlp(random, ["rows", 64], [64, 32, 10]),
        "fixed": lambda: _mlp(random, [1, 4], [4, 3, 2]),
        "gather": lambda: _gather(random),
        "tokens": lambda: _tokens(random),
    }
    return makers[kind]()


def to_bytes(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[str, list[Any]]],
    outputs: dict[str, tuple[str, list[Any]]],
    constants: dict[str, np.ndarray],
) -> bytes:
    """Put a graph together; tensors are given as datatype and shape."""

    def infos(tensors: dict[str, tuple[str, list[Any]]]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, ONNX_TYPES[datatype], shape)
            for name, (datatype, shape) in tensors.items()
        ]

    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", infos(inputs), infos(outputs), weights)
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="tests")
    return bytes(model.SerializeToString())


def _identity(tensors: dict[str, tuple[str, str]], seed: int) -> bytes:
    nodes = [
        helper.make_node("Identity", [name], [out], name=f"{name}{seed or ''}")
        for name, (out, _) in tensors.items()
    ]
    inputs = {name: (datatype, ["rows", 2]) for name, (_, datatype) in tensors.items()}
    outputs = {out: (datatype, ["rows", 2]) for out, datatype in tensors.values()}
    return to_bytes(nodes, inputs, outputs, {})


def _mlp(random: np.random.Generator, shape: list[Any], widths: list[int]) -> bytes:
    hidden = random.normal(size=widths[:2]).astype(np.float32) / 8
    last = random.normal(size=widths[1:]).astype(np.float32) / 8
    nodes = [
        helper.make_node("MatMul", ["x", "hidden"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["positive"]),
        helper.make_node("MatMul", ["positive", "last"], ["y"]),
    ]
    inputs = {"x": ("FP32", shape)}
    outputs = {"y": ("FP32", [shape[0], widths[-1]])}
    return to_bytes(nodes, inputs, outputs, {"hidden": hidden, "last": last})


def _gather(random: np.random.Generator) -> bytes:
    table = random.normal(size=10).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "index"], ["y"])]
    return to_bytes(
        nodes, {"index": ("INT64", ["rows"])}, {"y": ("FP32", ["rows"])}, {"table": table}
    )


def _tokens(random: np.random.Generator) -> bytes:
    """Look tokens up; give each one's value, and the mean over those that the mask keeps."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["values"]),
        helper.make_node("Cast", ["mask"], ["kept"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["values", "kept"], ["each"]),
        helper.make_node("ReduceSum", ["each", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["kept", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
    ]
    constants = {
        "table": random.normal(size=32).astype(np.float32),
        "one": np.array([1], np.int64),
    }
    shape = ["rows", "length"]
    return to_bytes(
        nodes,
        {"ids": ("INT64", shape), "mask": ("INT64", shape)},
        {"mean": ("FP32", ["rows"]), "each": ("FP32", shape)},
        constants,
    )
