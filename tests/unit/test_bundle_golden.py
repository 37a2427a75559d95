import numpy as np
import pyarrow as pa
import pytest

from slipway.bundle.golden import Golden, read_golden, replay, write_golden
from slipway.errors import BundleRefused

EXPECTED = np.array([0.1, 0.5, 0.9], np.float32)
INPUTS = pa.table(
    {
        "carrier": pa.array(["AA", None, "UA"], pa.string()),
        "delay": pa.array([1.5, None, 3.0], pa.float32()),
    }
)


@pytest.fixture
def golden(tmp_path) -> Golden:
    path = tmp_path / "golden.arrow"
    write_golden(path, INPUTS, [0, 1, 1], {"probability": EXPECTED}, {"probability": 0.01}, "fp32")
    return read_golden(path)


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


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_golden(tmp_path / name, INPUTS, [0, 1, 1], {"p": EXPECTED}, {"p": 0.01}, "fp32")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_chunks_leave_no_trace(tmp_path):
    chunked = pa.concat_tables([INPUTS.slice(0, 1), INPUTS.slice(1)])
    for name, inputs in (("a", INPUTS), ("b", chunked)):
        write_golden(tmp_path / name, inputs, [0, 1, 1], {"p": EXPECTED}, {"p": 0.01}, "fp32")
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
    write_golden(path, INPUTS, [0, 1, 1], {"p": nan}, {"p": 0.01}, "fp32")
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
        ({**COLUMNS, "label": pa.array([None], pa.int8())}, ABOUT),
        ({**COLUMNS, "label": pa.array([1], pa.int64())}, ABOUT),
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
        "label null",
        "label of another type",
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
