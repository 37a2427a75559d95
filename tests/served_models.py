"""Small real models of every kind, verified, for the tests of what runs them."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from slipway.bundle.contract import Contract, Requires
from slipway.bundle.golden import Golden
from slipway.bundle.session import Session, open_session
from slipway.bundle.verify import Verified, verify_bundle
from tests.bundles import CPU, make_bundle, make_keys
from tests.support.contracts import make_contract, make_input, make_output

ELEMENTS = {
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


def make_graph(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    weights: Mapping[str, Any] | None = None,
) -> bytes:
    """Make a model; inputs and outputs are (name, datatype, shape)."""

    def tensors(described: list[Any]) -> list[Any]:
        return [helper.make_tensor_value_info(n, ELEMENTS[d], shape) for n, d, shape in described]

    constants = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", tensors(inputs), tensors(outputs), constants)
    opsets = [helper.make_opsetid("", 20)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def make_identity(datatype: str) -> bytes:
    """Make a model that gives back what it takes."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return make_graph([node], [("x", datatype, ["n", "m"])], [("y", datatype, ["n", "m"])])


def make_dense(width: int = 16, layers: int = 1, seed: int = 0) -> bytes:
    """Make a model of weighted sums, `width` numbers in and out."""
    random = np.random.default_rng(seed)
    weights = {
        f"w{n}": (random.normal(size=(width, width)) / width**0.5).astype(np.float32)
        for n in range(layers)
    }
    names = ["x", *(f"h{n}" for n in range(layers - 1)), "y"]
    nodes = [helper.make_node("MatMul", [names[n], f"w{n}"], [names[n + 1]]) for n in range(layers)]
    shape = ["n", width]
    return make_graph(nodes, [("x", "FP32", shape)], [("y", "FP32", shape)], weights)


def dense_rows(rows: int, width: int = 16, seed: int = 1) -> dict[str, np.ndarray]:
    """Make rows for `make_dense`."""
    return {"x": np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)}


def verify_model(
    model: bytes,
    rows: Mapping[str, np.ndarray],
    *,
    max_rows: int = 64,
    invariance: float = 1e-6,
    expected: Mapping[str, np.ndarray] | None = None,
    provider: str = CPU,
) -> Verified:
    """Return what verifying a signed bundle of this model would have returned.

    Without `expected`, the model is run to know its answers.
    """
    session = open_session(model, CPU, 1)
    answers = dict(expected) if expected is not None else session.run(dict(rows))
    datatypes: dict[str, Any] = {**session.inputs, **session.outputs}
    golden = Golden(
        inputs=dict(rows),
        labels=np.full(len(next(iter(rows.values()))), None, object),
        expected=answers,
        tolerance=dict.fromkeys(answers, 1e-5),
        precision="fp32",
        datatypes=datatypes,
    )
    contract = _contract(session, max_rows, invariance, provider)
    return dataclasses.replace(signed_bundle(), model=model, contract=contract, golden=golden)


@cache
def signed_bundle() -> Verified:
    """Verify a real bundle, which lends the others its manifest."""
    with TemporaryDirectory() as folder:
        keys = make_keys(Path(folder) / "keys")
        make_bundle(Path(folder) / "bundle", keys=keys)
        return verify_bundle(Path(folder) / "bundle", keys.trusted)


def _contract(session: Session, max_rows: int, invariance: float, provider: str) -> Contract:
    datatypes: dict[str, Any] = {**session.inputs, **session.outputs}
    shapes = session.shapes
    return make_contract(
        [make_input(name, datatypes[name], shapes[name]) for name in session.inputs],
        [make_output(name, datatypes[name], shapes[name]) for name in session.outputs],
        model="flights",
        max_rows=max_rows,
        requires=Requires(provider=provider, memory_bytes=0),
        batch_invariance_max=invariance,
    )
