"""Small real models and their rows, for the tests of export, quantize, prove and payload.

A row: an origin (three known values), a delay and a wind. The hand-made core adds an effect of
the origin to a weighted sum of the numbers; late is what it gives, with noise.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from slipway.bundle.contract import InputTensor
from slipway.bundle.format import canonical_json
from slipway.config import ProveConfig
from tasks import columns, graph
from tasks.columns import Columns

ORIGINS = ["EWR", "JFK", "LGA"]
EFFECTS = [0.3, -0.4, 0.1, 0.8]
"""Of an unknown origin, then of each known one."""
WEIGHTS = [0.9, -0.5]


def small_columns() -> Columns:
    """Describe the three columns."""
    origin = InputTensor(
        name="origin",
        datatype="BYTES",
        shape=[-1],
        kind="category",
        meaning="airport of departure",
        categories=ORIGINS,
        range=None,
        missing="treated as unknown",
        unknown="an effect of its own",
    )
    numbers = [
        InputTensor(
            name=name,
            datatype="FP32",
            shape=[-1],
            kind="number",
            meaning=name,
            categories=None,
            range=(-6.0, 6.0),
            missing="0",
            unknown=None,
        )
        for name in ("delay", "wind")
    ]
    return Columns(inputs=[origin, *numbers], label="late", problem="binary")


def make_core(
    weights: Sequence[float] = WEIGHTS, dynamic: bool = False, sign: float = 1.0
) -> onnx.ModelProto:
    """Make a core; a `dynamic` one takes the scale of its numbers over the batch, as int8 does."""
    quantizing = [
        helper.make_node("DynamicQuantizeLinear", ["filled"], ["u8", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["u8", "scale", "zero"], ["ready"]),
    ]
    nodes = [
        helper.make_node("IsNaN", ["numbers"], ["missing"]),
        helper.make_node("Where", ["missing", "nothing", "numbers"], ["filled"]),
        *(quantizing if dynamic else [helper.make_node("Identity", ["filled"], ["ready"])]),
        helper.make_node("MatMul", ["ready", "weights"], ["weighted"]),
        helper.make_node("Gather", ["effects", "categories"], ["effect"]),
        helper.make_node("Add", ["weighted", "effect"], ["sum"]),
        helper.make_node("Squeeze", ["sum", "one"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    constants = {
        "nothing": np.float32(0),
        "weights": sign * np.array(weights, np.float32)[:, None],
        "effects": sign * np.array(EFFECTS, np.float32),
        "one": np.array([1], np.int64),
    }
    made = helper.make_graph(
        nodes,
        "core",
        [
            helper.make_tensor_value_info("categories", TensorProto.INT64, ["rows", 1]),
            helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["rows", 2]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["rows"])],
        [numpy_helper.from_array(np.asarray(v, v.dtype), n) for n, v in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def make_model(core: onnx.ModelProto) -> bytes:
    """Put the raw columns in front of a core."""
    return graph.to_bytes(graph.attach_columns(core, small_columns().inputs))


def small_rows(rows: int = 600, seed: int = 0) -> pa.Table:
    """Make rows with missing and unknown values among them, and a label that can be learned."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 4, rows)
    numbers = random.normal(size=(rows, 2)).astype(np.float32)
    numbers[random.random((rows, 2)) < 0.1] = np.nan
    logit = 2 * (np.nan_to_num(numbers) @ WEIGHTS + np.array(EFFECTS)[codes])
    late = random.random(rows) < 1 / (1 + np.exp(-logit))
    names = [None, *ORIGINS]
    return pa.table(
        {
            "flight": pa.array(range(rows)),
            "origin": pa.array([names[code] for code in codes], pa.string()),
            "delay": pa.array(numbers[:, 0], from_pandas=True),
            "wind": pa.array(numbers[:, 1], from_pandas=True),
            "late": pa.array(late.astype(np.int8)),
        }
    )


@dataclass(frozen=True)
class Line:
    """The folders that stages read and write."""

    root: Path

    def folder(self, name: str) -> Path:
        path = self.root / ("data" if name in ("golden", "prepared") else "models") / "small" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def reports(self) -> Path:
        path = self.root / ".slipway" / "reports" / "small"
        path.mkdir(parents=True, exist_ok=True)
        return path


def make_line(root: Path, static: bytes | None = None, dynamic: bytes | None = None) -> Line:
    """Lay out what prove reads: golden rows, fp32, and other precisions made or not made."""
    line = Line(root)
    pq.write_table(small_rows(), line.folder("golden") / columns.GOLDEN)
    fp32 = line.folder("fp32")
    (fp32 / graph.MODEL).write_bytes(make_model(make_core()))
    columns.write_columns(fp32, small_columns())
    facts = {"parity": {"1": 1e-7, "256": 2e-7}, "limit": 1e-5}
    (fp32 / "export.json").write_bytes(canonical_json(facts))
    for name, model in {"int8-static": static, "int8-dynamic": dynamic}.items():
        result = {"precision": name, "made": model is not None, "reason": "crashed: SIGSEGV"}
        (line.folder(name) / "result.json").write_text(json.dumps(result))
        if model is not None:
            (line.folder(name) / graph.MODEL).write_bytes(model)
    return line


def prove_config(**changes: object) -> ProveConfig:
    """Return limits that the small models meet."""
    usual: dict[str, object] = {
        "provider": "CPUExecutionProvider",
        "threads": 1,
        "parity_max": 0.05,
        "parity_mean_max": 0.01,
        "tolerance": 0.001,
        "invariance_max": 1e-6,
        "quality": {"auc": 0.01, "log_loss": 0.01},
        "auc_floor": 0.65,
        "log_loss_ceiling": 0.66,
        "cheaper_by_min": 0.1,
        "latency_rows": 16,
        "latency_rounds": 3,
        "latency_calls": 20,
    }
    return ProveConfig.model_validate({**usual, **changes})
