"""Captured requests can be asked again; what was redacted, or has no room, is never on the disk."""

import os
import stat
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from slipway.bundle.contract import Contract
from slipway.bundle.datatypes import DTYPES
from slipway.host.observe.capture import Capture, CaptureOptions, sweep
from slipway.host.observe.rows import read_capture
from slipway.host.request.message import Array
from tests.host_calls import VERSION, answer, make_call, make_contract, refuse
from tests.support.waiting import wait_until


def capture(folder: Path, **options: Any) -> Capture:
    fields = {"ratio": 1.0, "file_s": 60.0, **options}
    return Capture(CaptureOptions(folder, **fields))


def keep(
    into: Capture,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    contract: Contract,
    **fields: Any,
) -> None:
    call = make_call(inputs, contract=contract, **fields)
    into.finished(answer(call, outputs))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def session() -> ort.InferenceSession:
    """Make a real model: the sigmoid of a weighted sum."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3, 2], [0.1, -0.7, 0.3, 0.9, -0.2, 0.4])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
        [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_a_captured_file_asked_again_gives_the_same_answers(tmp_path: Path) -> None:
    model, random = session(), np.random.default_rng(0)
    contract = make_contract({"x": "FP32"}, {"y": "FP32"}, rank=2)
    kept = capture(tmp_path)
    for i in range(20):
        x = random.normal(size=(1 + i % 4, 3)).astype(np.float32)
        keep(kept, {"x": x}, {"y": model.run(None, {"x": x})[0]}, contract, request_id=f"r-{i}")
    kept.close()
    (path,) = files(tmp_path)
    requests = read_capture(path)
    assert [request.request_id for request in requests] == [f"r-{i}" for i in range(20)]
    for request in requests:
        again = model.run(None, {"x": request.inputs["x"]})[0]
        recorded = request.outputs["y"]
        assert recorded is not None
        assert (again.dtype, again.tobytes()) == (recorded.dtype, recorded.tobytes())


def test_one_row_of_a_file_is_one_row_of_a_request(tmp_path: Path) -> None:
    kept = capture(tmp_path)
    contract = make_contract({"x": "FP32", "name": "BYTES"}, {"y": "FP32"})
    x, names = np.array([1, np.nan], np.float32), np.array(["JFK", ""], object)
    y = np.array([3, 4], np.float32)
    keep(kept, {"x": x, "name": names}, {"y": y}, contract, request_id="r", caller="ann")
    kept.close()
    (path,) = files(tmp_path)
    rows = pq.read_table(path).to_pylist()
    assert list(rows[0]) == [
        "time", "request_id", "model", "version", "caller", "row",
        "input_x", "input_name", "output_y",
    ]  # fmt: skip
    assert [(r["request_id"], r["caller"], r["row"], r["version"]) for r in rows] == [
        ("r", "ann", 0, VERSION),
        ("r", "ann", 1, VERSION),
    ]
    assert (rows[0]["input_x"], rows[0]["input_name"], rows[0]["output_y"]) == (1, "JFK", 3)
    assert np.isnan(rows[1]["input_x"])
    assert abs(rows[0]["time"].timestamp() - time.time()) < 10


@pytest.mark.parametrize("datatype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3)])
def test_every_datatype_and_rank_comes_back_bit_for_bit(
    tmp_path: Path, datatype: str, shape: tuple[int, ...]
) -> None:
    dtype = DTYPES[datatype]  # type: ignore[index]
    random = np.random.default_rng(1)
    if datatype == "BYTES":
        values = np.array([f"é{i}" for i in range(np.prod(shape))], object).reshape(shape)
    elif datatype == "BOOL":
        values = random.integers(0, 2, shape).astype(bool)
    else:
        bits = random.bytes(int(np.prod(shape)) * dtype.itemsize)  # every NaN there is
        values = np.frombuffer(bits, dtype).reshape(shape)
    contract = make_contract({"x": datatype}, {"y": datatype}, rank=len(shape))
    kept = capture(tmp_path)
    keep(kept, {"x": values}, {"y": values[::-1]}, contract)
    keep(kept, {"x": values}, {"y": values}, contract)
    kept.close()
    first, second = read_capture(files(tmp_path)[0])
    pairs = [
        (first.inputs["x"], values),
        (first.outputs["y"], values[::-1]),
        (second.outputs["y"], values),
    ]
    for got, wanted in pairs:
        assert got is not None
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        if datatype == "BYTES":
            assert got.tolist() == wanted.tolist()
        else:
            assert got.tobytes() == wanted.tobytes()
    assert first.datatypes == {"x": datatype, "y": datatype}


def test_a_model_that_takes_no_rows_is_one_row_a_request(tmp_path: Path) -> None:
    contract = make_contract({"x": "FP32"}, {"y": "FP32"}, rank=2)
    fixed = contract.inputs[0].model_copy(update={"shape": [2, -1]})
    contract = contract.model_copy(update={"inputs": [fixed]})
    x, y = np.ones((2, 5), np.float32), np.zeros((1, 4), np.float32)
    kept = capture(tmp_path)
    keep(kept, {"x": x}, {"y": y}, contract)
    kept.close()
    (path,) = files(tmp_path)
    assert pq.read_table(path).num_rows == 1
    (request,) = read_capture(path)
    assert request.inputs["x"] is not None
    assert request.outputs["y"] is not None
    assert (request.inputs["x"].shape, request.outputs["y"].shape) == ((2, 5), (1, 4))


def test_what_is_redacted_is_never_on_the_disk(tmp_path: Path) -> None:
    kept = capture(tmp_path, redact=frozenset({"name", "y"}), file_s=0.0)
    contract = make_contract({"x": "FP32", "name": "BYTES"}, {"y": "FP32"})
    inputs = {"x": np.ones(1, np.float32), "name": np.array(["CANARY-7"], object)}
    keep(kept, inputs, {"y": np.ones(1, np.float32)}, contract)
    kept.close()
    (path,) = files(tmp_path)
    (row,) = pq.read_table(path).to_pylist()
    assert (row["input_x"], row["input_name"], row["output_y"]) == (1, None, None)
    assert b"CANARY" not in path.read_bytes()
    assert read_capture(path)[0].inputs["name"] is None


def test_a_redacted_value_is_gone_before_anything_is_queued(tmp_path: Path) -> None:
    kept = capture(tmp_path, redact=frozenset({"x"}))
    queued: list[Any] = []
    kept._sink.put = lambda record: queued.append(record) or True  # type: ignore[method-assign,func-returns-value]
    x = np.array([123], np.float32)
    keep(kept, {"x": x}, {"y": x}, make_contract({"x": "FP32"}, {"y": "FP32"}))
    assert queued[0].inputs == {"x": None}
    kept.close()


def test_values_are_copied_because_their_memory_is_used_again(tmp_path: Path) -> None:
    kept = capture(tmp_path)
    x = np.array([1, 2], np.float32)
    keep(kept, {"x": x}, {"y": x}, make_contract({"x": "FP32"}, {"y": "FP32"}))
    x[:] = 99
    kept.close()
    (request,) = read_capture(files(tmp_path)[0])
    assert request.inputs["x"] is not None
    assert request.inputs["x"].tolist() == [1, 2]


def test_only_answered_requests_that_chance_picks_are_kept(tmp_path: Path) -> None:
    drawn = iter([0.05, 0.5, 0.05])
    kept = Capture(CaptureOptions(tmp_path, ratio=0.1), lambda: next(drawn))
    for name in ("picked", "left"):
        call = make_call(request_id=name)
        kept.finished(answer(call))
    kept.finished(refuse("queue_full", make_call(request_id="refused")))
    kept.close()
    assert [one.request_id for one in read_capture(files(tmp_path)[0])] == ["picked"]


def test_files_are_private_and_appear_whole(tmp_path: Path) -> None:
    folder = tmp_path / "captured"
    old = folder / "capture-0000000000001-00000000.parquet.part"
    folder.mkdir()
    old.touch()
    kept = capture(folder, file_rows=2)
    for _ in range(3):
        keep(kept, {"x": np.ones(2, np.float32)}, {"y": np.ones(2, np.float32)},
             make_contract({"x": "FP32"}, {"y": "FP32"}))  # fmt: skip
        time.sleep(0.15)
    kept.close()
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600] * 3
    assert all(path.suffix == ".parquet" for path in folder.iterdir())


def test_versions_have_files_of_their_own_and_may_ask_for_other_outputs(tmp_path: Path) -> None:
    kept = capture(tmp_path)
    contract = make_contract({"x": "FP32"}, {"y": "FP32", "z": "FP32"})
    one = np.ones(1, np.float32)
    keep(kept, {"x": one}, {"y": one}, contract)
    keep(kept, {"x": one}, {"z": one, "y": one}, contract)
    keep(kept, {"x": one}, {"y": one}, contract, model="other")
    kept.close()
    found = {read_capture(path)[0].model: pq.read_table(path).num_rows for path in files(tmp_path)}
    assert found == {"m": 2, "other": 1}


def test_the_oldest_files_go_and_nothing_else(tmp_path: Path) -> None:
    now = time.time()
    names = [f"capture-{i:013}-0000000{i}.parquet" for i in range(5)]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (now - 50 + i, now - 50 + i))
    (tmp_path / "notes.parquet").write_bytes(b"x" * 1000)
    os.utime(tmp_path / names[3], (now - 5000, now - 5000))
    sweep(tmp_path, max_bytes=350, max_age_s=1000, now=now)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [names[2], names[4], "notes.parquet"]


def test_what_has_no_room_is_dropped_and_counted(tmp_path: Path) -> None:
    kept = capture(tmp_path, request_bytes=1000)
    contract = make_contract({"x": "FP32"}, {"y": "FP32"})
    large = np.ones(1000, np.float32)
    keep(kept, {"x": large}, {"y": large}, contract)
    kept._taken_bytes = 1 << 40
    keep(kept, {"x": large[:1]}, {"y": large[:1]}, contract)
    kept.close()
    assert (kept.dropped, files(tmp_path)) == (2, [])


def test_a_folder_that_has_gone_costs_captures_and_no_request(tmp_path: Path) -> None:
    folder = tmp_path / "captured"
    kept = capture(folder, file_s=0.0)
    folder.rmdir()
    one = np.ones(1, np.float32)
    contract = make_contract({"x": "FP32"}, {"y": "FP32"})
    keep(kept, {"x": one}, {"y": one}, contract)
    wait_until(lambda: kept.dropped, "dropped")
    folder.mkdir()
    keep(kept, {"x": one}, {"y": one}, contract)
    kept.close()
    assert kept.dropped == 1
    assert len(files(folder)) == 1
    assert kept._taken_bytes == kept._done_bytes
    assert threading.active_count() < 50
