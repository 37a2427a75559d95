"""Write the three ONNX models, with random weights of a fixed seed.

mlp      [N, 64]          3 layers, 27 thousand weights: all overhead, no work
cnn      [N, 3, 32, 32]   ResNet-20, batch norms folded into the convolutions
encoder  [N, 64] tokens   6 layers of 384, the size of MiniLM-L6
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.host.peers.specs import VOCABULARY

OPSET, IR_VERSION = 20, 9


class Graph:
    """Nodes and weights in the order they are asked for, each with a name of its own."""

    def __init__(self, seed: int, dtype: type = np.float32):
        self.dtype = dtype
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.named = 0

    def name(self, stem: str) -> str:
        """Find the next name."""
        self.named += 1
        return f"{stem}_{self.named}"

    def constant(self, array: Any) -> str:
        """Add a weight."""
        name, array = self.name("w"), np.asarray(array)
        if array.dtype == np.float32:
            array = array.astype(self.dtype)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def noise(self, *shape: int, scale: float) -> str:
        """Add a random weight."""
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return its output."""
        output = self.name(operator.lower())
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def linear(self, x: str, width: int, out: int) -> str:
        """Add a layer for inputs of any rank."""
        y = self.add("MatMul", x, self.noise(width, out, scale=width**-0.5))
        return self.add("Add", y, self.noise(out, scale=0.02))

    def save(self, path: Path, kind: int, name: str, row: list[int], columns: int) -> None:
        """Make the last node the output `y`, check the model and write it."""
        self.nodes[-1].output[0] = "y"
        take = helper.make_tensor_value_info(name, kind, ["N", *row])
        give = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", columns])
        graph = helper.make_graph(self.nodes, "g", [take], [give], self.weights)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def mlp(path: Path) -> None:
    """Three dense layers."""
    g, x = Graph(1), "x"
    for i, o in ((64, 128), (128, 128)):
        dense = g.add("Gemm", x, g.noise(i, o, scale=i**-0.5), g.noise(o, scale=0.02))
        x = g.add("Relu", dense)
    g.add("Gemm", x, g.noise(128, 10, scale=128**-0.5), g.noise(10, scale=0.02))
    g.save(path, TensorProto.FLOAT, "x", [64], 10)


def cnn(path: Path) -> None:
    """ResNet-20 for pictures of 32 × 32."""
    g = Graph(2)

    def conv(x: str, i: int, o: int, kernel: int = 3, stride: int = 1) -> str:
        weight = g.noise(o, i, kernel, kernel, scale=(2 / (i * kernel * kernel)) ** 0.5)
        return g.add(
            "Conv", x, weight, g.noise(o, scale=0.02), kernel_shape=[kernel, kernel],
            strides=[stride] * 2, pads=[kernel // 2] * 4,
        )  # fmt: skip

    x, width = g.add("Relu", conv("x", 3, 16)), 16
    for stage in (16, 32, 64):
        for block in range(3):
            stride = 2 if stage != 16 and block == 0 else 1
            skip = conv(x, width, stage, 1, stride) if stride == 2 else x
            y = conv(g.add("Relu", conv(x, width, stage, 3, stride)), stage, stage)
            x, width = g.add("Relu", g.add("Add", y, skip)), stage
    x = g.add("Flatten", g.add("GlobalAveragePool", x))
    g.add("Gemm", x, g.noise(64, 10, scale=0.1), g.noise(10, scale=0.02))
    g.save(path, TensorProto.FLOAT, "x", [3, 32, 32], 10)


def encoder(path: Path, dtype: type = np.float32) -> None:
    """Transformer encoder with mean pooling and two classes; answers in 32 bits."""
    g = Graph(3, dtype)
    layers, dim, heads, tokens = 6, 384, 12, 64
    half = dim // heads

    def norm(x: str) -> str:
        ones, zeros = np.ones(dim, np.float32), np.zeros(dim, np.float32)
        return g.add("LayerNormalization", x, g.constant(ones), g.constant(zeros), axis=-1)

    split = g.constant(np.array([0, 0, heads, half], np.int64))
    merge = g.constant(np.array([0, 0, dim], np.int64))
    scale = g.constant(np.float32(half**-0.5))
    x = g.add("Gather", g.noise(VOCABULARY, dim, scale=0.05), "input_ids")
    x = norm(g.add("Add", x, g.noise(1, tokens, dim, scale=0.05)))
    for _ in range(layers):
        q, k, v = (g.add("Reshape", g.linear(x, dim, dim), split) for _ in range(3))
        q = g.add("Transpose", q, perm=[0, 2, 1, 3])
        k = g.add("Transpose", k, perm=[0, 2, 3, 1])
        v = g.add("Transpose", v, perm=[0, 2, 1, 3])
        a = g.add("Softmax", g.add("Mul", g.add("MatMul", q, k), scale), axis=-1)
        a = g.add("Transpose", g.add("MatMul", a, v), perm=[0, 2, 1, 3])
        x = norm(g.add("Add", x, g.linear(g.add("Reshape", a, merge), dim, dim)))
        f = g.linear(g.add("Gelu", g.linear(x, dim, 4 * dim)), 4 * dim, dim)
        x = norm(g.add("Add", x, f))
    x = g.add("ReduceMean", x, g.constant(np.array([1], np.int64)), keepdims=0)
    y = g.linear(x, dim, 2)
    if dtype is not np.float32:
        g.add("Cast", y, to=TensorProto.FLOAT)
    g.save(path, TensorProto.INT64, "input_ids", [tokens], 2)


def encoder_fp16(path: Path) -> None:
    """The same encoder with 16-bit weights, for a GPU."""
    encoder(path, np.float16)


BUILDERS = {"mlp": mlp, "cnn": cnn, "encoder": encoder, "encoder-fp16": encoder_fp16}


def make_models(folder: Path, names: list[str]) -> None:
    """Write those of the models that are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / f"{name}.onnx"
        if not path.exists():
            partial = path.with_suffix(".partial")
            BUILDERS[name](partial)
            partial.rename(path)
