import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from slipway.bundle.datatypes import DTYPES
from slipway.bundle.session import Tuning, open_session
from slipway.errors import BundleRefused
from tests.bundles import CPU
from tests.served_models import ELEMENTS, make_dense, make_graph, make_identity

NUMBERS = [datatype for datatype in ELEMENTS if datatype != "BYTES"]
TEXT = ["", "a", "überall", "日本語", "\U0001f600", "zero \0 inside", " ", "e\u0301"]


def random_bits(datatype: str, rows: int, columns: int = 3) -> np.ndarray:
    """Make values of every bit pattern: NaN with payloads, infinities, subnormals."""
    dtype = DTYPES[datatype]
    random = np.random.default_rng(7)
    raw = random.integers(0, 256, (rows, columns * dtype.itemsize), np.uint8)
    return (raw & 1).view(dtype) if datatype == "BOOL" else raw.view(dtype)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_of_every_datatype_come_back_bit_for_bit(datatype):
    session = open_session(make_identity(datatype), CPU, threads=1)
    values = random_bits(datatype, 1000)
    answer = session.run({"x": values})["y"]
    assert (session.inputs, session.outputs) == ({"x": datatype}, {"y": datatype})
    assert answer.dtype == DTYPES[datatype]
    assert answer.shape == values.shape
    assert answer.tobytes() == values.tobytes()


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "BF16"])
def test_the_payload_of_nan_is_kept(datatype):
    quiet = {"FP16": 0x7E01, "FP32": 0x7FC00001, "FP64": 0x7FF8000000000001, "BF16": 0x7FC1}
    bits = np.array([[quiet[datatype]]], f"u{DTYPES[datatype].itemsize}")
    session = open_session(make_identity(datatype), CPU, threads=1)
    assert session.run({"x": bits.view(DTYPES[datatype])})["y"].tobytes() == bits.tobytes()


def test_text_comes_back_as_it_went_in():
    session = open_session(make_identity("BYTES"), CPU, threads=1)
    values = np.array(TEXT, object).reshape(2, 4)
    assert session.run({"x": values})["y"].tolist() == values.tolist()


def test_bf16_need_not_lie_in_one_piece_and_may_be_empty():
    session = open_session(make_identity("BF16"), CPU, threads=1)
    values = random_bits("BF16", 8)
    assert session.run({"x": values[::2]})["y"].tolist() == values[::2].tolist()
    assert session.run({"x": values[:0]})["y"].shape == (0, 3)


def test_bf16_is_rounded_and_widened_by_the_graph():
    to_bf16 = helper.make_node("Cast", ["x"], ["half"], to=TensorProto.BFLOAT16)
    back = helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT)
    model = make_graph(
        [to_bf16, back], [("x", "FP32", ["n"])], [("half", "BF16", ["n"]), ("y", "FP32", ["n"])]
    )
    answers = open_session(model, CPU, threads=1).run({"x": np.array([1.0, -2.5], np.float32)})
    assert answers["half"].tolist() == [0x3F80, 0xC020]
    assert answers["y"].tolist() == [1.0, -2.5]


def test_bf16_and_text_may_go_in_together_when_no_bf16_comes_out():
    nodes = [
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["s"], ["t"]),
    ]
    inputs = [("x", "BF16", ["n"]), ("s", "BYTES", ["n"])]
    model = make_graph(nodes, inputs, [("y", "FP32", ["n"]), ("t", "BYTES", ["n"])])
    session = open_session(model, CPU, threads=1)
    answers = session.run({"x": np.array([0x3F80], np.uint16), "s": np.array(["ü"], object)})
    assert (answers["y"].tolist(), answers["t"].tolist()) == ([1.0], ["ü"])


def test_what_cannot_be_passed_from_python_is_refused():
    nodes = [helper.make_node("Identity", [a], [b]) for a, b in (("x", "y"), ("s", "t"))]
    inputs = [("x", "BF16", ["n"]), ("s", "BYTES", ["n"])]
    model = make_graph(nodes, inputs, [("y", "BF16", ["n"]), ("t", "BYTES", ["n"])])
    with pytest.raises(BundleRefused, match="takes BYTES and gives BF16"):
        open_session(model, CPU, threads=1)


def test_a_session_takes_options_that_a_host_asks_for():
    tuning = Tuning(session={"session.intra_op.allow_spinning": "1"})
    session = open_session(make_dense(), CPU, 2, tuning)
    options = session.bare.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert options.get_session_config_entry("session.load_model_format") == "ONNX"


def test_no_option_turns_off_the_check_of_the_format():
    tuning = Tuning(session={"session.load_model_format": "ORT"})
    session = open_session(make_dense(), CPU, 1, tuning)
    options = session.bare.get_session_options()
    assert options.get_session_config_entry("session.load_model_format") == "ONNX"


def test_a_session_does_not_keep_the_models_bytes():
    session = open_session(make_dense(), CPU, 1)
    assert session.bare._model_bytes is None


def test_a_run_takes_options_of_its_own():
    options = onnxruntime.RunOptions()
    options.terminate = True
    session = open_session(make_dense(), CPU, 1)
    with pytest.raises(Exception, match="terminate"):
        session.run({"x": np.zeros((1, 16), np.float32)}, options)
    session.options = options
    with pytest.raises(Exception, match="terminate"):
        session.run({"x": np.zeros((1, 16), np.float32)})
