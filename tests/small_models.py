"""Small real models and their rows, for the tests of export, quantize, prove and payload.

A row: an origin (three known values), a delay and a wind. The hand-made core adds an effect of
the origin to a weighted sum of the numbers; late is what it gives, with noise. Two families made
such a model: `network`, at several precisions, and `trees`, at fp32 alone.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from slipway.bundle.contract import InputTensor
from slipway.bundle.format import canonical_json
from slipway.config import ProveConfig
from slipway.precision import PRECISIONS
from slipway.problem.calibration import Calibration
from tasks import columns, graph
from tasks.answers import CalibrationFacts
from tasks.candidates import CandidateModel
from tasks.columns import Columns, TargetColumn
from tasks.models import write_off

ORIGINS = ["EWR", "JFK", "LGA"]
EFFECTS = [0.3, -0.4, 0.1, 0.8]
"""Of an unknown origin, then of each known one."""
WEIGHTS = [0.9, -0.5]

FP32, STATIC, DYNAMIC = (CandidateModel("network", form) for form in PRECISIONS)
TREES = CandidateModel("trees", "fp32")


def small_columns(calibration: Calibration = Calibration()) -> Columns:  # noqa: B008 - frozen
    """Describe the three columns, the target, and what stands behind the scores."""
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
    return Columns(
        inputs=[origin, *numbers],
        target=TargetColumn(name="late", problem="binary", classes=[0, 1], scale=1.0),
        weight=None,
        calibration=CalibrationFacts(**asdict(calibration)),
    )


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
        helper.make_node("Add", ["weighted", "effect"], [graph.SCORES]),
    ]
    constants = {
        "nothing": np.float32(0),
        "weights": sign * np.array(weights, np.float32)[:, None],
        "effects": sign * np.array(EFFECTS, np.float32),
    }
    made = helper.make_graph(
        nodes,
        "core",
        [
            helper.make_tensor_value_info("categories", TensorProto.INT64, ["rows", 1]),
            helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["rows", 2]),
        ],
        [helper.make_tensor_value_info(graph.SCORES, TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(np.asarray(v, v.dtype), n) for n, v in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def make_model(core: onnx.ModelProto, calibration: Calibration = Calibration()) -> bytes:  # noqa: B008 - frozen
    """Put the raw columns before a core, and the answers behind it."""
    raw = small_columns(calibration)
    return graph.to_bytes(graph.assemble(core, raw.inputs, raw.answering))


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
        """Make and return a folder of the line: a stage's, or a candidate's as dvc.yaml has it."""
        path = self.root / ("data" if name in ("golden", "prepared") else "models") / "small" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def of(self, candidate: CandidateModel) -> Path:
        """Make and return a candidate's folder."""
        return self.folder(f"{candidate.family}/{candidate.precision}")

    @property
    def candidates(self) -> dict[CandidateModel, Path]:
        """Return every candidate's folder, in no order that means anything."""
        return {each: self.of(each) for each in (DYNAMIC, TREES, STATIC, FP32)}

    @property
    def reports(self) -> Path:
        """Make and return the folder of reports."""
        path = self.root / ".slipway" / "reports" / "small"
        path.mkdir(parents=True, exist_ok=True)
        return path


def make_line(
    root: Path,
    static: bytes | None = None,
    dynamic: bytes | None = None,
    trees: onnx.ModelProto | None = None,
    trees_loss: float = 0.0,
) -> Line:
    """Lay out what prove reads: golden rows, fp32, and other precisions made or not made.

    `trees` is the other family's core; without one that family is off.
    """
    line = Line(root)
    pq.write_table(small_rows(), line.folder("golden") / columns.GOLDEN)
    _write_reference(line.of(FP32), make_core())
    if trees is None:
        write_off(line.of(TREES))
    else:
        _write_reference(line.of(TREES), trees)
    for candidate, model in {STATIC: static, DYNAMIC: dynamic}.items():
        name, folder = candidate.precision, line.of(candidate)
        result = {"precision": name, "made": model is not None, "reason": "crashed: SIGSEGV"}
        (folder / "result.json").write_text(json.dumps(result))
        if model is not None:
            (folder / graph.MODEL).write_bytes(model)
    losses = {"network": 0.0} | ({} if trees is None else {"trees": trees_loss})
    write_choice(line, losses)
    return line


def _write_reference(folder: Path, core: onnx.ModelProto) -> None:
    (folder / graph.MODEL).write_bytes(make_model(core))
    (folder / graph.CORE).write_bytes(graph.to_bytes(core))
    columns.write_columns(folder, small_columns())
    facts = {"parity": {"1": 1e-7, "256": 2e-7}, "limit": 1e-5}
    (folder / "export.json").write_bytes(canonical_json(facts))


def write_choice(line: Line, losses: dict[str, float]) -> None:
    """Write what each family loses against the best one, a thousandth more or less."""
    families = {
        name: {"loss": {"value": loss, "low": loss - 0.001, "high": loss + 0.001}}
        for name, loss in losses.items()
    }
    best = min(losses, key=lambda name: losses[name])
    text = json.dumps({"measure": "auc", "best": best, "families": families})
    (line.folder("evaluation") / "choice.json").write_text(text)


def prove_config(**changes: object) -> ProveConfig:
    """Return limits that the small models meet."""
    usual: dict[str, object] = {
        "provider": "CPUExecutionProvider",
        "threads": 1,
        "parity_max": 0.05,
        "parity_mean_max": 0.01,
        "tolerance": 0.001,
        "invariance_max": 1e-6,
        "quality": {
            "auc": {"worst": 0.65, "loss_max": 0.01},
            "log_loss": {"worst": 0.66, "loss_max": 0.01},
        },
        "family_margin": 0.01,
        "prefer": ["network", "trees"],
        "cheaper_by_min": 0.1,
        "latency_rows": 16,
        "latency_rounds": 3,
        "latency_calls": 20,
    }
    return ProveConfig.model_validate({**usual, **changes})
