"""validate: what passes, what is set aside, what stops the line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.config import ValidateConfig
from slipway.errors import ConfigError, SlipwayError
from tasks import validate
from tasks.expectations import read_rules
from tests.project import rule
from tests.unit.tasks.small_tables import ROWS, table, write_folder


def suite(path: Path, *rules: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"name": "p", "expectations": list(rules)}))
    return path


IN_RANGE = rule("column_values_to_be_between", "row", column="size", min_value=0, max_value=6)
UNIQUE = rule("column_values_to_be_unique", "suite", column="id")
LIMITS = {"rows_min": 10, "rows_max": 10_000, "quarantine_share_max": 0.01, "timeout_s": 60}


def validated(root: Path, rows: pa.Table, *rules: dict[str, Any], **changes: Any) -> Path:
    facts = {name: changes.pop(name) for name in ("leaks", "known_later") if name in changes}
    raw = write_folder(root / "raw", rows, **facts)
    (root / "valid").mkdir()
    validate.run(
        ValidateConfig.model_validate({**LIMITS, **changes}),
        expectations=suite(root / "p.json", *(rules or (IN_RANGE, UNIQUE))),
        raw=raw,
        valid=root / "valid",
        reports=root / "reports",
    )
    return root / "valid"


def with_size(value: float, *indices: int) -> pa.Table:
    rows = table()
    sizes = rows["size"].to_numpy().copy()
    sizes[list(indices)] = value
    return rows.set_column(3, "size", pa.array(sizes, pa.float32()))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which rows that break no rule were validated."""
    root = tmp_path_factory.mktemp("good")
    validated(root, table())
    return root


def test_good_rows_pass_as_they_are(good: Path):
    valid = good / "valid"
    assert pq.read_table(valid / "table.parquet").equals(table())
    assert pq.read_table(valid / "quarantine.parquet").num_rows == 0


def test_a_row_that_breaks_a_rule_is_set_aside_with_the_reason(tmp_path: Path):
    valid = validated(tmp_path, with_size(99, 5, 8))
    aside = pq.read_table(valid / "quarantine.parquet").to_pylist()
    assert [row["id"] for row in aside] == [5, 8]
    assert "size: column values to be between" in aside[0]["reason"]
    assert 5 not in pq.read_table(valid / "table.parquet")["id"].to_pylist()
    counts = json.loads((valid / "validation.json").read_text())
    assert (counts["rows_in"], counts["rows_valid"], counts["rows_quarantined"]) == (3000, 2998, 2)


def test_too_many_broken_rows_stop_the_line(tmp_path: Path):
    with pytest.raises(SlipwayError, match="40 of 3,000 rows break a rule"):
        validated(tmp_path, with_size(99, *range(40)))


def test_a_rule_for_the_table_stops_the_line_and_shows_where_to_look(tmp_path: Path):
    twice = pa.concat_tables([table(), table(100)])
    with pytest.raises(SlipwayError, match=r"id: column values to be unique.*200 rows") as caught:
        validated(tmp_path, twice)
    assert "data-docs/index.html" in str(caught.value)


def test_data_docs_are_written(good: Path):
    assert "Expectation" in (good / "reports/data-docs/index.html").read_text()


@pytest.mark.parametrize("rows", [5, 20_000])
def test_a_row_count_outside_its_limits_stops_the_line(tmp_path: Path, rows: int):
    with pytest.raises(SlipwayError, match=f"the table has {rows:,} rows, expected 10 to 10,000"):
        validated(tmp_path, table(rows))


def test_a_leak_by_name_stops_the_line(tmp_path: Path):
    with pytest.raises(SlipwayError, match="leak: size depends on what is known only later"):
        validated(tmp_path, table(), known_later=["size"])


def test_a_label_may_bear_the_name_of_what_is_known_later(tmp_path: Path):
    valid = validated(tmp_path, table(), known_later=["late"])
    assert pq.read_table(valid / "table.parquet").num_rows == ROWS


def test_a_leak_by_behaviour_stops_the_line(tmp_path: Path):
    with pytest.raises(SlipwayError, match="leak: kind depends"):
        validated(tmp_path, table(), leaks=["kind"])


def test_a_label_with_one_class_stops_the_line(tmp_path: Path):
    ones = table().set_column(4, "late", pa.array(np.ones(ROWS, "int8")))
    with pytest.raises(
        SlipwayError, match=r"'late' must hold 0, 1 in .*, found only 1; there is no row of 0"
    ):
        validated(tmp_path, ones)


def test_a_rule_about_a_column_that_is_not_there_is_an_error_not_a_pass(tmp_path: Path):
    ghost = rule("column_values_to_not_be_null", "row", column="ghost")
    with pytest.raises(SlipwayError, match="ghost"):
        validated(tmp_path, table(), ghost)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module_name": "os", "class_name": "system"}, "must hold `type`, `kwargs` and `meta`"),
        ({"type": "expect_code_to_run"}, "unknown expectation 'expect_code_to_run'"),
        ({"meta": {"level": "rows"}}, "must be one of row, suite, got 'rows'"),
        ({"kwargs": {"column": {"$PARAMETER": "x"}}}, "must map names to plain values"),
        ({"kwargs": {"column": "${AWS_SECRET}"}}, "must map names to plain values"),
        ({"kwargs": {}}, "a rule for rows must name a column"),
    ],
)
def test_a_suite_with_anything_but_plain_known_rules_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
):
    path = suite(tmp_path / "p.json", {**IN_RANGE, **change})
    with pytest.raises(ConfigError, match=message):
        read_rules(path, validate.known_types())
