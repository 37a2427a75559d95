"""Conversions in a child process, and the rows that scales are taken from."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from slipway.config import QuantizeConfig
from slipway.errors import SlipwayError
from tasks import quantize
from tasks.child import attempt, explain
from tasks.models import is_off, write_off
from tests.support.pace import limit, within


def make_shards(folder: Path, sizes: list[int]) -> None:
    start = 0
    for i, size in enumerate(sizes):
        rows = np.arange(start, start + size)
        table = pa.table(
            {
                "categories": pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.int32)), 1),
                "numbers": pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float32)), 1),
                "label": pa.array(np.zeros(size)),
                "unit": pa.array(rows),
            }
        )
        path = folder / f"train-{i:05}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        start += size


def read_all(reader: quantize.CalibrationRows) -> list[dict[str, np.ndarray]]:
    return list(iter(reader.get_next, None))


@pytest.fixture
def config() -> QuantizeConfig:
    return QuantizeConfig.model_validate(
        {
            "int8-static": {"calibration_rows": 64, "method": "minmax", "per_channel": True},
            "int8-dynamic": {"per_channel": True},
            "timeout_s": 60,
        }
    )


def test_a_child_that_comes_to_its_end_leaves_no_reason() -> None:
    assert attempt(time.sleep, 0, timeout_s=limit(30)) is None


def test_a_crash_is_a_reason_and_not_the_end_of_the_stage() -> None:
    assert attempt(os.abort, timeout_s=limit(30)) == "crashed: SIGABRT"


def test_a_child_that_hangs_is_killed_in_time() -> None:
    with within(10):
        assert attempt(time.sleep, 600, timeout_s=0.5) == "did not finish within 0.5 s"


def test_an_exit_in_the_middle_is_not_taken_for_success() -> None:
    assert attempt(sys.exit, 0, timeout_s=limit(30)) == "ended early with exit code 0"


def test_an_exception_is_told_without_folders_that_differ_between_checkouts() -> None:
    reason = attempt(os.stat, "/no/such/folder/core.onnx", timeout_s=limit(30))
    assert reason == "FileNotFoundError: [Errno 2] No such file or directory: 'core.onnx'"


def test_a_long_message_is_cut() -> None:
    assert len(explain(ValueError("x" * 5000))) == 300


def test_a_precision_that_cannot_be_made_is_recorded_with_the_reason(
    config: QuantizeConfig, tmp_path: Path
) -> None:
    fp32, out = tmp_path / "fp32", tmp_path / "int8-static"
    fp32.mkdir()
    out.mkdir()
    (fp32 / "core.onnx").write_bytes(b"no graph")
    quantize.run(
        config, precision="int8-static", fp32=fp32, prepared=tmp_path, golden=tmp_path, out=out
    )
    assert [path.name for path in out.iterdir()] == ["result.json"]
    result = json.loads((out / "result.json").read_text())
    assert (result["precision"], result["made"], result["size_bytes"]) == (
        "int8-static",
        False,
        None,
    )
    assert result["reason"]
    assert str(tmp_path) not in result["reason"]


def test_a_family_that_is_off_has_no_cheaper_form(config: QuantizeConfig, tmp_path: Path) -> None:
    fp32, out = tmp_path / "fp32", tmp_path / "int8-static"
    fp32.mkdir()
    out.mkdir()
    write_off(fp32)
    quantize.run(
        config, precision="int8-static", fp32=fp32, prepared=tmp_path, golden=tmp_path, out=out
    )
    assert [path.name for path in out.iterdir()] == ["off.json"]
    assert is_off(out)


def test_a_precision_without_a_conversion_is_refused(
    config: QuantizeConfig, tmp_path: Path
) -> None:
    with pytest.raises(SlipwayError, match="no conversion to precision 'int4'; known: int8-static"):
        quantize.run(
            config,
            precision="int4",
            fp32=tmp_path,
            prepared=tmp_path,
            golden=tmp_path,
            out=tmp_path,
        )


def test_calibration_rows_stand_at_equal_distances_over_all_shards(tmp_path: Path) -> None:
    make_shards(tmp_path, [600, 400])
    batches = read_all(quantize.CalibrationRows(tmp_path, 500))
    assert [len(batch["numbers"]) for batch in batches] == [256, 244]
    numbers = np.concatenate([batch["numbers"] for batch in batches])[:, 0]
    np.testing.assert_array_equal(numbers, np.arange(0, 1000, 2))
    assert batches[0]["categories"].dtype == np.int64


def test_fewer_rows_than_wanted_are_all_used(tmp_path: Path) -> None:
    make_shards(tmp_path, [30])
    [batch] = read_all(quantize.CalibrationRows(tmp_path, 500))
    assert len(batch["numbers"]) == 30
