import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from slipway.bundle.contract import Decision
from slipway.bundle.datatypes import DTYPES, bf16_to_float, float_to_bf16
from slipway.bundle.golden import (
    Golden,
    distance,
    read_golden,
    replay,
    write_golden,
)
from slipway.bundle.rows import COLUMN, is_ragged, stack
from slipway.errors import BundleRefused
from tests.tensors import random_tensor

EXPECTED = np.array([0.1, 0.5, 0.9], np.float32)
INPUTS = pa.table(
    {
        "carrier": pa.array(["AA", None, "UA"], pa.string()),
        "delay": pa.array([1.5, None, 3.0], pa.float32()),
    }
)


@pytest.fixture
def golden(tmp_path) -> Golden:
    return written(tmp_path / "golden.arrow")


def written(path, expected=EXPECTED) -> Golden:
    """Write and read back a golden set of two columns, with missing values in both."""
    golden = Golden(
        inputs={
            "carrier": np.array(["AA", "", "UA"], object),
            "delay": np.float32([1.5, np.nan, 3.0]),
        },
        labels=np.array([0, 1, 1], object),
        expected={"probability": expected},
        tolerance={"probability": 0.01},
        precision="fp32",
        datatypes={"carrier": "BYTES", "delay": "FP32", "probability": "FP32"},
    )
    write_golden(path, golden)
    return read_golden(path)


def write_plain(path) -> None:
    """Write the same in the form of slipway 0.1: a plain column per input and output."""
    columns = {name: INPUTS[name] for name in INPUTS.column_names}
    columns["label"] = pa.array([0, 1, 1], pa.int8())
    columns["expected.probability"] = pa.array(EXPECTED)
    about = {"precision": "fp32", "tolerance": {"probability": 0.01}, "outputs": ["probability"]}
    write_table(path, columns, json.dumps(about).encode())


def write_table(path, columns: dict, metadata: bytes | None) -> None:
    table = pa.table(columns).replace_schema_metadata(metadata and {b"slipway": metadata})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def test_a_golden_set_reads_back_in_the_form_that_a_session_takes(golden):
    assert golden.rows == 3
    assert golden.inputs["carrier"].tolist() == ["AA", "", "UA"]
    assert golden.inputs["carrier"].dtype == object
    assert np.array_equal(golden.inputs["delay"], np.float32([1.5, np.nan, 3.0]), equal_nan=True)
    assert golden.labels.tolist() == [0, 1, 1]
    assert golden.expected["probability"].dtype == np.float32
    assert (golden.tolerance, golden.precision) == ({"probability": 0.01}, "fp32")


def test_the_form_of_slipway_0_1_is_read_as_the_same_golden_set(golden, tmp_path):
    write_plain(tmp_path / "plain.arrow")
    found = read_golden(tmp_path / "plain.arrow")
    assert (found.tolerance, found.precision, found.batchable) == (
        golden.tolerance, golden.precision, golden.batchable
    )  # fmt: skip
    assert dict(found.datatypes) == dict(golden.datatypes)
    assert found.labels.tolist() == golden.labels.tolist()
    assert found.inputs["carrier"].tolist() == golden.inputs["carrier"].tolist()
    assert np.array_equal(found.inputs["delay"], golden.inputs["delay"], equal_nan=True)
    assert found.expected["probability"].tolist() == golden.expected["probability"].tolist()


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        written(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("batch_rows", [1, 2, 256])
def test_a_replay_runs_every_row_and_measures_the_largest_difference(golden, batch_rows):
    seen = []

    def run(inputs):
        seen.extend(inputs["carrier"])
        start = len(seen) - len(inputs["carrier"])
        return {"probability": (EXPECTED - np.float32([0, 0.004, 0]))[start : len(seen)]}

    result = replay(run, golden, batch_rows)
    assert seen == ["AA", "", "UA"]
    assert (result.rows, result.passed) == (3, True)
    assert result.largest["probability"] == pytest.approx(0.004, abs=1e-6)


def test_a_replay_outside_the_tolerance_fails(golden):
    result = replay(lambda _: {"probability": EXPECTED + np.float32(0.02)}, golden)
    assert not result.passed


@pytest.mark.parametrize(
    "answers",
    [
        {"probability": np.array([0.1, np.nan, 0.9], np.float32)},
        {"probability": np.array([0.1, np.inf, 0.9], np.float32)},
        {"probability": EXPECTED[:2]},
        {"probability": EXPECTED.reshape(3, 1)},
        {},
    ],
    ids=["nan", "inf", "too few rows", "another shape", "no such output"],
)
def test_an_answer_that_is_none_is_infinitely_far_off(golden, answers):
    result = replay(lambda _: answers, golden)
    assert (result.passed, result.largest) == (False, {"probability": float("inf")})


def test_an_expected_nan_does_not_let_everything_pass(tmp_path):
    path = tmp_path / "golden.arrow"
    nan = np.full(3, np.nan, np.float32)
    written(path, nan)
    assert not replay(lambda _: {"p": nan}, read_golden(path)).passed


ABOUT = b'{"precision": "fp32", "tolerance": {"p": 0.1}, "outputs": ["p"]}'
COLUMNS = {
    "carrier": pa.array(["AA"]),
    "label": pa.array([1], pa.int8()),
    "expected.p": pa.array([0.5], pa.float32()),
}


def test_the_table_that_the_next_test_breaks_is_sound(tmp_path):
    write_table(tmp_path / "golden.arrow", COLUMNS, ABOUT)
    assert read_golden(tmp_path / "golden.arrow").rows == 1


@pytest.mark.parametrize(
    ("columns", "about"),
    [
        (COLUMNS, None),
        (COLUMNS, b'{"precision": "fp32"}'),
        (COLUMNS, ABOUT.replace(b'"p": 0.1', b'"q": 0.1')),
        (COLUMNS, ABOUT.replace(b"0.1", b"NaN")),
        ({"label": COLUMNS["label"], "expected.p": COLUMNS["expected.p"]}, ABOUT),
        ({**COLUMNS, "label": pa.array([b"1"])}, ABOUT),
        ({**COLUMNS, "label": pa.array([[1]])}, ABOUT),
        ({**COLUMNS, "expected.p": pa.array([0.5], pa.float64())}, ABOUT),
        ({**COLUMNS, "carrier": pa.array([b"AA"])}, ABOUT),
        ({**COLUMNS, "carrier": pa.array([["AA"]])}, ABOUT),
        ({name: column.slice(0, 0) for name, column in COLUMNS.items()}, ABOUT),
    ],
    ids=[
        "no metadata",
        "keys lacking",
        "tolerance of another output",
        "tolerance NaN",
        "no inputs",
        "label of bytes",
        "label of lists",
        "expected of another type",
        "input of bytes",
        "input of lists",
        "no rows",
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path, columns, about):
    write_table(tmp_path / "golden.arrow", columns, about)
    with pytest.raises(BundleRefused, match=r"golden\.arrow"):
        read_golden(tmp_path / "golden.arrow")


@pytest.mark.parametrize("data", [b"", b"ARROW1\0\0", b"junk" * 100])
def test_what_is_no_arrow_file_is_refused(data):
    with pytest.raises(BundleRefused, match=r"golden\.arrow"):
        read_golden(data)


def test_a_cut_file_is_refused(tmp_path):
    write_table(tmp_path / "golden.arrow", COLUMNS, ABOUT)
    data = (tmp_path / "golden.arrow").read_bytes()
    for size in range(0, len(data), 97):
        with pytest.raises(BundleRefused):
            read_golden(data[:size])


def tensor_golden(inputs, expected, datatypes, labels=None, batchable=True) -> Golden:
    rows = len(next(iter(inputs.values())))
    return Golden(
        inputs=inputs,
        labels=np.array([None] * rows if labels is None else labels, object),
        expected=expected,
        tolerance=dict.fromkeys(expected, 0.0),
        precision="as-made",
        datatypes=datatypes,
        batchable=batchable,
    )


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 1, 4, 2), (3, 0)], ids=str)
@pytest.mark.parametrize("datatype", DTYPES)
def test_tensors_of_any_datatype_and_rank_read_back_to_the_bit(tmp_path, datatype, shape):
    values = random_tensor(np.random.default_rng(3), datatype, shape).astype(DTYPES[datatype])
    golden = tensor_golden({"x": values}, {"y": values}, {"x": datatype, "y": datatype})
    for name in ("a", "b"):
        write_golden(tmp_path / name, golden)
    read = read_golden(tmp_path / "a")
    for back in (read.inputs["x"], read.expected["y"]):
        assert (back.dtype, back.shape) == (values.dtype, values.shape)
        assert back.tolist() == values.tolist()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read.datatypes == {"x": datatype, "y": datatype}


def test_labels_that_nobody_gave_are_unknown_and_given_ones_come_back(tmp_path):
    x = np.zeros((2, 1), np.float32)
    for labels, expected in (
        (None, [None, None]),
        ([1, 0], [1, 0]),
        (["no", "yes"], ["no", "yes"]),
        ([True, False], [True, False]),
        ([0.5, None], [0.5, None]),
        ([1000, -3], [1000, -3]),
    ):
        golden = tensor_golden({"x": x}, {"y": x}, {"x": "FP32", "y": "FP32"}, labels)
        write_golden(tmp_path / "golden.arrow", golden)
        assert read_golden(tmp_path / "golden.arrow").labels.tolist() == expected


def ragged_golden(lengths, batchable=True) -> Golden:
    rows = stack([np.arange(n, dtype=np.int64) for n in lengths])
    return tensor_golden({"x": rows}, {"y": rows}, {"x": "INT64", "y": "INT64"}, None, batchable)


def test_rows_of_several_shapes_read_back_and_only_equal_ones_share_a_run(tmp_path):
    write_golden(tmp_path / "golden.arrow", ragged_golden([3, 3, 3, 2, 3]))
    read = read_golden(tmp_path / "golden.arrow")
    assert is_ragged(read.inputs["x"])
    shapes = [inputs["x"].shape for inputs, _ in read.batches(2)]
    assert shapes == [(2, 3), (1, 3), (1, 2), (1, 3)]
    assert replay(lambda inputs: {"y": inputs["x"]}, read, 2).passed


def test_whole_requests_are_run_one_by_one_as_they_are(tmp_path):
    x = np.arange(8, dtype=np.float32).reshape(2, 1, 4)
    golden = tensor_golden({"x": x}, {"y": x}, {"x": "FP32", "y": "FP32"}, batchable=False)
    write_golden(tmp_path / "golden.arrow", golden)
    read = read_golden(tmp_path / "golden.arrow")
    seen = []

    def run(inputs):
        seen.append(inputs["x"].shape)
        return {"y": inputs["x"]}

    assert replay(run, read).passed
    assert (read.batchable, seen) == (False, [(1, 4), (1, 4)])


@pytest.mark.parametrize(
    ("datatype", "expected", "actual", "found"),
    [
        ("FP32", [1.0, 2.0], [1.0, 2.5], 0.5),
        ("FP16", [1.0], [1.5], 0.5),
        ("FP64", [1.0], [1.0 + 2**-40], 2**-40),
        ("BF16", [0x3F80], [0x3FC0], 0.5),
        ("INT64", [2**62], [2**62 + 1], float("inf")),
        ("UINT64", [2**64 - 1], [2**64 - 1], 0.0),
        ("BOOL", [True], [False], float("inf")),
        ("BYTES", ["a"], ["b"], float("inf")),
        ("BYTES", ["Übung"], ["Übung"], 0.0),
        ("FP32", [np.inf], [np.inf], float("inf")),
    ],
)
def test_floating_point_is_near_and_everything_else_is_equal_or_not(
    datatype, expected, actual, found
):
    dtype = DTYPES[datatype]
    assert distance(np.array(actual, dtype), np.array(expected, dtype), datatype) == found


def test_bf16_rounds_to_the_nearest_and_keeps_nan():
    numbers = np.array([1.0, 1.0 + 2**-9, 1.0 + 3 * 2**-9, -2.5, np.inf], np.float32)
    assert bf16_to_float(float_to_bf16(numbers)).tolist() == [1.0, 1.0, 1.0078125, -2.5, np.inf]
    assert np.isnan(bf16_to_float(float_to_bf16(np.array([np.nan], np.float32)))).all()


TENSORS_ABOUT = (
    b'{"precision": "as-made", "tolerance": {"y": 0.1}, "outputs": ["y"],'
    b' "datatypes": {"x": "FP32", "y": "FP32"}}'
)


def cell(shape, data) -> pa.Array:
    return pa.array([{"shape": shape, "data": data}], COLUMN)


ONE = cell([1], np.float32([1]).tobytes())


def test_the_tensors_that_the_next_test_breaks_are_sound(tmp_path):
    write_table(tmp_path / "golden.arrow", {"input.x": ONE, "expected.y": ONE}, TENSORS_ABOUT)
    assert read_golden(tmp_path / "golden.arrow").inputs["x"].tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("columns", "about"),
    [
        ({"input.x": cell([2], b"1234"), "expected.y": ONE}, TENSORS_ABOUT),
        ({"input.x": cell([-1], b""), "expected.y": ONE}, TENSORS_ABOUT),
        ({"input.x": cell(None, b""), "expected.y": ONE}, TENSORS_ABOUT),
        ({"input.x": cell([1 << 62, 1 << 62], b""), "expected.y": ONE}, TENSORS_ABOUT),
        ({"input.x": pa.array([None], COLUMN), "expected.y": ONE}, TENSORS_ABOUT),
        ({"input.x": pa.array([1.0], pa.float32()), "expected.y": ONE}, TENSORS_ABOUT),
        ({"input.x": ONE}, TENSORS_ABOUT),
        ({"input.x": ONE, "input.z": ONE, "expected.y": ONE}, TENSORS_ABOUT),
        (
            {"input.x": ONE, "expected.y": ONE},
            TENSORS_ABOUT.replace(b'"x": "FP32"', b'"x": "FP8"'),
        ),
        ({"input.x": ONE, "expected.y": ONE}, TENSORS_ABOUT.replace(b"0.1", b"-0.1")),
        (
            {"input.x": cell([1], b"\x09\0\0\0a"), "expected.y": ONE},
            TENSORS_ABOUT.replace(b'"x": "FP32"', b'"x": "BYTES"'),
        ),
        (
            {"input.x": cell([1], b"\x01\0\0\0\xff"), "expected.y": ONE},
            TENSORS_ABOUT.replace(b'"x": "FP32"', b'"x": "BYTES"'),
        ),
        (
            {"input.x": cell([1 << 40], b"\0\0\0\0"), "expected.y": ONE},
            TENSORS_ABOUT.replace(b'"x": "FP32"', b'"x": "BYTES"'),
        ),
    ],
    ids=[
        "too few bytes",
        "negative dimension",
        "no shape",
        "dimensions that overflow",
        "null tensor",
        "no tensor",
        "no expected",
        "a column too many",
        "unknown datatype",
        "negative tolerance",
        "text longer than its bytes",
        "text that is no UTF-8",
        "more text than bytes",
    ],
)
def test_tensors_of_another_form_are_refused(tmp_path, columns, about):
    write_table(tmp_path / "golden.arrow", columns, about)
    with pytest.raises(BundleRefused, match=r"golden\.arrow"):
        read_golden(tmp_path / "golden.arrow")


def test_a_host_that_reads_a_golden_set_loads_neither_kernels_nor_pandas(tmp_path):
    write_golden(tmp_path / "golden.arrow", ragged_golden([3, 3, 3]))
    code = (
        "import pathlib, sys; from slipway.bundle.golden import read_golden;"
        "read_golden(pathlib.Path(sys.argv[1]));"
        "print(sorted({'pyarrow.compute', 'pandas'} & set(sys.modules)))"
    )
    args = [sys.executable, "-c", code, str(tmp_path / "golden.arrow")]
    done = subprocess.run(args, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def decided(tolerance: float = 0.01) -> Golden:
    """Three rows of a probability, and the label that a threshold of 0.5 makes of it."""
    p = np.array([0.2, 0.495, 0.9], np.float32)
    label = np.array(["no", "no", "yes"], object)
    return Golden(
        inputs={"x": p},
        labels=label,
        expected={"probability": p, "label": label},
        tolerance={"probability": tolerance, "label": 0.0},
        precision="fp32",
        datatypes={"x": "FP32", "probability": "FP32", "label": "BYTES"},
        decision=Decision(output="label", by="probability", at=0.5),
    )


@pytest.mark.parametrize(
    ("labels", "passed"),
    [
        (["no", "no", "yes"], True),
        (["no", "yes", "yes"], True),  # 0.495 may fall on either side of 0.5
        (["yes", "no", "yes"], False),
        (["no", "no", "no"], False),
    ],
)
def test_a_decision_may_differ_only_where_its_probability_is_undecided(tmp_path, labels, passed):
    write_golden(tmp_path / "golden.arrow", decided())
    golden = read_golden(tmp_path / "golden.arrow")
    answers = {"probability": golden.inputs["x"], "label": np.array(labels, object)}
    assert replay(lambda _: answers, golden).passed is passed


def test_the_likeliest_class_may_differ_only_where_two_are_nearly_as_likely(tmp_path):
    p = np.array([[0.5, 0.49, 0.01], [0.6, 0.3, 0.1]], np.float32)
    label = np.array(["a", "a"], object)
    golden = replace(
        decided(),
        inputs={"x": p[:, 0]},
        labels=label,
        expected={"probabilities": p, "label": label},
        tolerance={"probabilities": 0.01, "label": 0.0},
        datatypes={"x": "FP32", "probabilities": "FP32", "label": "BYTES"},
        decision=Decision(output="label", by="probabilities", at=None),
    )
    for labels, passed in ((["b", "a"], True), (["a", "b"], False)):
        answers = {"probabilities": p, "label": np.array(labels, object)}
        assert replay(lambda _, found=answers: found, golden).passed is passed


def test_a_decision_that_names_no_output_is_refused(tmp_path):
    golden = replace(decided(), decision=Decision(output="label", by="score", at=0.5))
    write_golden(tmp_path / "golden.arrow", golden)
    with pytest.raises(BundleRefused, match="its decision names an output that there is not"):
        read_golden(tmp_path / "golden.arrow")


def test_weights_come_back(tmp_path):
    write_golden(tmp_path / "golden.arrow", replace(decided(), weights=np.array([1.0, 2.0, 0.5])))
    assert read_golden(tmp_path / "golden.arrow").weights.tolist() == [1.0, 2.0, 0.5]
    write_golden(tmp_path / "golden.arrow", decided())
    assert read_golden(tmp_path / "golden.arrow").weights is None
