"""Boosted trees as an ONNX graph that answers as their own arithmetic does.

One node walks all trees, in float64 (ai.onnx.ml TreeEnsembleRegressor 3, the version that ONNX
Runtime has for float64 input and that stands beside the encoders' opset). Every split asks
`feature <= threshold`: categories come in as one feature per split, looked up by code, since
chains of comparisons with each category of a set are slow and were wrong before.

Leaves are rounded to multiples of one small power of two, so that float64 adds them without any
error, in any order: a row's score is the same bits in every batch and with any number of threads.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tasks import graph
from tasks.models.trees.forest import LEAF, Forest

SCORES = "scores"
"""The one output, float32 [N, K]."""

FEATURES = "features"

EXACT_BITS = 52
"""Bits that a sum of leaves may need: float64 has 53."""

SMALLEST_EXPONENT = -1074
"""Of a float64."""


def make_core(forest: Forest, *, opset: int) -> ModelProto:
    """Make the graph; it has an input for categories or numbers only if there are such columns."""
    columns, outputs = len(forest.outside), len(forest.base)
    inputs = []
    if columns:
        inputs.append(_tensor(graph.CATEGORIES, TensorProto.INT64, columns))
    if forest.numbers:
        inputs.append(_tensor(graph.NUMBERS, TensorProto.FLOAT, forest.numbers))
    nodes, tables = _expand(forest)
    made = helper.make_graph(
        [*nodes, _walk(forest)],
        "trees",
        inputs,
        [_tensor(SCORES, TensorProto.FLOAT, outputs)],
        tables,
    )
    model = helper.make_model(
        made,
        ir_version=10,
        opset_imports=[
            helper.make_opsetid("", opset),
            helper.make_opsetid("ai.onnx.ml", graph.ENCODER_OPSET),
        ],
    )
    model = graph.reduce(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def round_leaves(values: NDArray[np.float64], trees: NDArray[np.int64]) -> NDArray[np.float64]:
    """Round leaves so that one leaf of every tree adds up without any error.

    The sum of the trees' largest leaves bounds every sum on the way. What is lost per leaf is at
    most 2^-53 of that bound.
    """
    largest = np.zeros(int(trees.max()) + 1)
    np.maximum.at(largest, trees, np.abs(values))
    bound = float(largest.sum())
    if bound == 0.0:
        return values
    step = 2.0 ** max(np.ceil(np.log2(bound)) - EXACT_BITS, SMALLEST_EXPONENT)
    rounded: NDArray[np.float64] = np.round(values / step) * step
    return rounded


def _tensor(name: str, kind: int, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["rows", width])


def _expand(forest: Forest) -> tuple[list[NodeProto], list[TensorProto]]:
    """Make the features that the splits ask for: numbers, then looked up category splits."""
    nodes, tables, parts = [], [], []
    if forest.numbers:
        nodes.append(_to_double(graph.NUMBERS, "numbers/double"))
        parts.append("numbers/double")
    for i, table in enumerate(forest.outside):
        if table.shape[1]:
            nodes += _look_up(i)
            tables += _tables(i, table)
            parts.append(f"splits/{i}/double")
    if not parts:  # categories that no tree asks for; a walk needs rows all the same
        nodes.append(_to_double(graph.CATEGORIES, "categories/double"))
        parts.append("categories/double")
    return [*nodes, helper.make_node("Concat", parts, [FEATURES], axis=1)], tables


def _look_up(column: int) -> list[NodeProto]:
    """Look up a column's splits by code; -1 and codes behind the table find its last row."""
    name = f"splits/{column}"
    return [
        helper.make_node("Gather", [graph.CATEGORIES, f"{name}/column"], [f"{name}/code"], axis=1),
        helper.make_node("Clip", [f"{name}/code", f"{name}/min", f"{name}/max"], [f"{name}/row"]),
        helper.make_node("Gather", [f"{name}/table", f"{name}/row"], [f"{name}/outside"], axis=0),
        _to_double(f"{name}/outside", f"{name}/double"),
    ]


def _tables(column: int, table: NDArray[np.uint8]) -> list[TensorProto]:
    name = f"splits/{column}"
    constants = {
        f"{name}/column": np.int64(column),
        f"{name}/min": np.int64(-1),
        f"{name}/max": np.int64(len(table) - 1),
        f"{name}/table": table,
    }
    return [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]


def _to_double(name: str, double: str) -> NodeProto:
    return helper.make_node("Cast", [name], [double], to=TensorProto.DOUBLE)


def _walk(forest: Forest) -> NodeProto:
    """Write the trees down as attributes; nodes are numbered within their tree."""
    nodes = forest.nodes
    sizes = np.diff(np.append(forest.roots, len(nodes.feature)))
    trees = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.repeat(forest.roots, sizes)
    leaf = nodes.feature == LEAF
    within = np.arange(len(trees)) - starts
    return helper.make_node(
        "TreeEnsembleRegressor",
        [FEATURES],
        [SCORES],
        domain="ai.onnx.ml",
        n_targets=len(forest.base),
        base_values_as_tensor=numpy_helper.from_array(forest.base),
        nodes_treeids=trees,
        nodes_nodeids=within,
        nodes_modes=["LEAF" if each else "BRANCH_LEQ" for each in leaf],
        nodes_featureids=np.where(leaf, 0, nodes.feature),
        nodes_values_as_tensor=numpy_helper.from_array(nodes.threshold.astype(np.float64)),
        nodes_missing_value_tracks_true=nodes.missing_left.astype(np.int64),
        nodes_truenodeids=np.where(leaf, 0, nodes.left - starts),
        nodes_falsenodeids=np.where(leaf, 0, nodes.right - starts),
        target_treeids=trees[leaf],
        target_nodeids=within[leaf],
        target_ids=np.repeat(forest.outputs, sizes)[leaf],
        target_weights_as_tensor=numpy_helper.from_array(
            round_leaves(nodes.value[leaf], trees[leaf])
        ),
    )
