"""A real network through export, quantize and prove: what unit tests take small models for."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnx import numpy_helper

from slipway.bundle.session import open_session
from slipway.config import ExportConfig, QuantizeConfig
from slipway.problem.calibration import Calibration
from slipway.settings.answers import AnswerConfig
from slipway.settings.families import NetworkConfig
from tasks import columns, export, prove, quantize
from tasks.candidates import CandidateModel
from tasks.columns import Columns
from tasks.models import network
from tasks.models.network import Network
from tasks.shards import read_features
from tests.small_models import (
    DYNAMIC,
    FP32,
    ORIGINS,
    STATIC,
    Line,
    prove_config,
    small_rows,
    write_choice,
)

ROWS = 4000
CANDIDATES = (FP32, STATIC, DYNAMIC)
PRECISIONS = tuple(each.precision for each in CANDIDATES)
CPU = "CPUExecutionProvider"


def write_prepared(folder: Path, rows: pa.Table) -> None:
    codes = [0 if v is None else 1 + ORIGINS.index(v) for v in rows["origin"].to_pylist()]
    numbers = np.stack([rows[name].to_numpy() for name in ("delay", "wind")], axis=1)
    table = pa.table(
        {
            "categories": pa.FixedSizeListArray.from_arrays(pa.array(codes, pa.int32()), 1),
            "numbers": pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), 2),
            "label": rows["late"].cast(pa.float64()).combine_chunks(),
            "unit": pa.array(range(rows.num_rows), pa.int64()),
        }
    )
    for name in ("train-00000", "choose"):
        path = folder / f"{name}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    ends = {"min": -4.0, "max": 4.0, "missing_share": 0.1, "quantiles": [-4.0, -0.7, 0.7, 4.0]}
    number = {"meaning": "", "center": 0.0, "scale": 1.0, **ends}
    features = {
        "target": {"name": "late", "problem": "binary", "classes": [0, 1]},
        "weight": None,
        "parts": {"train": {"rows": rows.num_rows, "base_rate": 0.5}},
        "categories": [{"name": "origin", "meaning": "", "vocabulary": ORIGINS}],
        "numbers": [{"name": name, **number} for name in ("delay", "wind")],
    }
    (folder / "features.json").write_text(json.dumps(features))


NETWORK = NetworkConfig(
    processes=1, threads=1, seed=0, epochs=1, batch_rows=64, learning_rate=0.01, warmup_steps=1,
    weight_decay=0.0, average_decay=0.0, patience=1, evaluate_every_steps=1,
    checkpoint_every_steps=1, hidden=32, blocks=2, dropout=0.0, members=2, number_width=2, bins=3,
    unknown_share=0.0,
)  # fmt: skip


def train(raw: Columns, rows: pa.Table, features: dict[str, Any]) -> Network:
    """Fit a little: untrained weights are too tame to show what quantization does."""
    torch.manual_seed(0)
    made = network.build(NETWORK, features)
    codes = [torch.from_numpy(part) for part in raw.codes(columns.as_arrays(raw.table(rows)))]
    late = torch.from_numpy(rows["late"].to_numpy().astype(np.float32))
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
    for _ in range(60):
        loss = made.loss(made(*codes), late).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return made.eval()


def export_into(line: Line, fp32: Path) -> None:
    answer = AnswerConfig(operating_point=None, interval=None)
    config = ExportConfig(opset=20, parity_batches=[1, 7, 256], parity_max=1e-5, answer=answer)
    folders = {name: line.folder(name) for name in ("weights", "prepared", "golden")}
    export.run(config, family="network", fp32=fp32, **folders)


def quantize_into(line: Line, precision: str, out: Path) -> dict[str, Any]:
    config = QuantizeConfig.model_validate(
        {
            "int8-static": {"calibration_rows": 1024, "method": "minmax", "per_channel": True},
            "int8-dynamic": {"per_channel": True},
            "timeout_s": 300,
        }
    )
    folders = {name: line.folder(name) for name in ("prepared", "golden")}
    folders["fp32"] = line.of(FP32)
    quantize.run(config, precision=precision, out=out, **folders)
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """Train, export and quantize once."""
    line = Line(tmp_path_factory.mktemp("line"))
    rows = small_rows(ROWS)
    write_prepared(line.folder("prepared"), rows)
    pq.write_table(small_rows(1500, seed=1), line.folder("golden") / columns.GOLDEN)
    features = read_features(line.folder("prepared"))
    raw = columns.from_features(features, Calibration())
    network.save(train(raw, rows, features), line.folder("weights"))
    export_into(line, line.of(FP32))
    for candidate in CANDIDATES[1:]:
        folder = line.of(candidate)
        assert quantize_into(line, candidate.precision, folder)["reason"] is None
    write_choice(line, {"network": 0.0})
    return line


@pytest.fixture(scope="module")
def gates(line: Line) -> dict[str, Any]:
    prove.run(
        prove_config(prefer=["network"]),
        candidates={each: line.of(each) for each in CANDIDATES},
        evaluation=line.folder("evaluation"),
        golden=line.folder("golden"),
        gates=line.folder("gates"),
        reports=line.reports,
    )
    written: dict[str, Any] = json.loads((line.folder("gates") / "gates.json").read_text())
    return written


def answers(line: Line, precision: str) -> np.ndarray:
    raw = columns.read_columns(line.of(FP32))
    rows, _ = columns.read_golden_rows(line.folder("golden"), raw)
    session = open_session(named(line, precision) / "model.onnx", CPU, 1)
    return session.run(columns.as_arrays(rows))["probability"]


def named(line: Line, precision: str) -> Path:
    return line.of(CandidateModel("network", precision))


def failing(gates: dict[str, Any], precision: str) -> list[str]:
    lines = gates["precisions"][f"network-{precision}"]["gates"]
    return [gate["gate"] for gate in lines if gate["verdict"] == "fail"]


def test_another_process_exports_the_same_bytes(line: Line, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.small_models import Line;"
        " from tests.system.test_precisions import export_into;"
        " export_into(Line(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", code, line.root, tmp_path], check=True)
    for name in ("model.onnx", "core.onnx", "columns.json", "export.json"):
        assert (tmp_path / name).read_bytes() == (line.of(FP32) / name).read_bytes()


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_quantizing_again_gives_the_same_bytes(line: Line, precision: str, tmp_path: Path) -> None:
    quantize_into(line, precision, tmp_path)
    expected = (named(line, precision) / "model.onnx").read_bytes()
    assert (tmp_path / "model.onnx").read_bytes() == expected


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_model_tells_nothing_about_the_machine_it_was_made_on(line: Line, precision: str) -> None:
    model = (named(line, precision) / "model.onnx").read_bytes()
    assert b".py" not in model
    assert str(Path.cwd()).encode() not in model
    assert str(line.root).encode() not in model


def test_parity_with_torch_is_recorded_at_every_batch_size(line: Line) -> None:
    facts = json.loads((line.of(FP32) / "export.json").read_text())
    assert list(facts["parity"]) == ["1", "256", "7"]
    assert max(facts["parity"].values()) <= 1e-5


def test_unknown_and_missing_values_answer_as_the_network_does_in_torch(line: Line) -> None:
    trained = network.load(line.folder("weights"))
    session = open_session(line.of(FP32) / "model.onnx", CPU, 1)
    rows = {
        "origin": np.array(["XXX", "", "JFK", "XXX"], object),
        "delay": np.array([1.0, 1.0, np.nan, np.nan], np.float32),
        "wind": np.array([0.5, 0.5, 0.5, np.nan], np.float32),
    }
    numbers = np.stack([rows["delay"], rows["wind"]], axis=1)
    raw = columns.read_columns(line.of(FP32))
    expected = raw.answering.respond(trained.score(np.array([[0], [0], [2], [0]]), numbers))
    answered = session.run(rows)["probability"]
    np.testing.assert_allclose(answered, expected, atol=1e-6)
    assert len(set(answered[1:].tolist())) == 3


def test_only_matrix_products_are_quantized(line: Line) -> None:
    model = onnx.load(line.of(STATIC) / "model.onnx")
    writers = {output: node.op_type for node in model.graph.node for output in node.output}
    readers = {
        node.op_type
        for node in model.graph.node
        if any(writers.get(name) == "DequantizeLinear" for name in node.input)
    }
    assert readers == {"MatMul"}


def test_int8_weights_are_so_small_that_no_cpu_saturates(line: Line) -> None:
    """Two products of u8 and s8 are added in 16 bits where there is no VNNI."""
    for precision in PRECISIONS[1:]:
        model = onnx.load(named(line, precision) / "model.onnx")
        arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
        weights = [array for array in arrays if array.dtype == np.int8 and array.ndim == 2]
        assert len(weights) == 5  # the way in, and two of each block
        largest = max(int(np.abs(array.astype(int)).max()) for array in weights)
        assert 2 * 255 * largest < 2**15


def test_static_int8_still_tells_rows_apart(line: Line) -> None:
    """A quantized last layer has 256 answers for all the rows in the world."""
    distinct = {p: len(np.unique(answers(line, p))) for p in ("fp32", "int8-static")}
    assert distinct["int8-static"] > 0.9 * distinct["fp32"]


def test_fp32_and_static_int8_pass_and_dynamic_int8_depends_on_its_neighbours(
    gates: dict[str, Any],
) -> None:
    assert failing(gates, "fp32") == []
    assert failing(gates, "int8-static") == []
    assert failing(gates, "int8-dynamic") == ["batch invariance"]


def test_every_made_precision_is_timed(line: Line, gates: dict[str, Any]) -> None:
    report = json.loads((line.reports / "prove.json").read_text())
    assert sorted(report["latency"]) == sorted(map(str, CANDIDATES))
    assert gates["chosen"] in (str(FP32), str(STATIC))
