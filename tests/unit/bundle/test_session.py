import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from slipway.bundle.session import device_memory_bytes, open_session
from slipway.errors import BundleRefused
from tests.bundles import CPU, make_model


def test_a_model_answers_strings_and_numbers_with_missing_and_unknown_values():
    session = open_session(make_model(), CPU, threads=1)
    inputs = {
        "carrier": np.array(["AA", "", "??"], object),
        "delay": np.array([0.0, np.nan, 10.0], np.float32),
    }
    answers = session.run(inputs)["probability"]
    logits = np.array([-0.5, 0.75, 0.75])  # missing: the mean, 10 minutes; unknown: 0.25
    assert answers == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)


def test_a_session_says_what_it_runs_on_and_what_it_takes(tmp_path):
    (tmp_path / "model.onnx").write_bytes(make_model())
    session = open_session(tmp_path / "model.onnx", CPU, threads=1)
    assert session.providers == [CPU]
    assert session.inputs == {"carrier": "BYTES", "delay": "FP32"}
    assert session.outputs == {"probability": "FP32"}


@pytest.mark.skipif(
    device_memory_bytes("CUDAExecutionProvider") > 0, reason="needs a machine without CUDA"
)
def test_a_provider_that_is_listed_but_does_not_work_is_refused():
    assert "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    with pytest.raises(BundleRefused, match="must run on CUDAExecutionProvider"):
        open_session(make_model(), "CUDAExecutionProvider", threads=1)


def test_a_provider_that_no_one_knows_is_refused():
    with pytest.raises(BundleRefused, match="AbacusExecutionProvider"):
        open_session(make_model(), "AbacusExecutionProvider", threads=1)


def test_a_graph_that_onnx_runtime_does_not_take_is_refused():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    node = helper.make_node("NoSuchOperator", ["x"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", [x], [x]))
    with pytest.raises(BundleRefused, match=r"model\.onnx: ONNX Runtime cannot load it"):
        open_session(model.SerializeToString(), CPU, threads=1)


def test_weights_outside_the_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.bin").write_bytes(np.float32([1, 2]).tobytes())
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="w.bin")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y])
    graph.initializer.append(weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(BundleRefused, match="external data"):
        open_session(model.SerializeToString(), CPU, threads=1)


def test_bytes_in_onnx_runtimes_own_format_are_refused():
    model = make_model()
    disguised = b"\x12\x06__ORTM" + model  # a field of text that ORT's format is known by
    assert disguised[4:8] == b"ORTM"
    session = open_session(disguised, CPU, threads=1)
    assert session.outputs == {"probability": "FP32"}  # read as the ONNX file that was checked


def test_this_machine_has_memory():
    assert device_memory_bytes(CPU) > 100_000_000
