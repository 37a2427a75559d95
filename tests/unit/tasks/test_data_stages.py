"""validate, golden and prepare: what passes, what is set aside, what is never trained on."""

import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.config import GoldenConfig, PrepareConfig, ValidateConfig
from slipway.errors import ConfigError, SlipwayError
from tasks import golden, prepare, validate
from tasks.expectations import read_rules
from tasks.shards import read_features, read_shards, read_split
from tasks.tables import TableFacts, write_facts, write_table
from tests.project import rule

ROWS = 3000
START = datetime(2024, 1, 1)


def table(rows: int = ROWS, first_id: int = 0) -> pa.Table:
    """Rows over sixty days, one label in three."""
    at = [START + timedelta(minutes=i * 60 * 24 * 60 // rows) for i in range(rows)]
    ids = np.arange(first_id, first_id + rows)
    return pa.table(
        {
            "at": pa.array(at, pa.timestamp("us")),
            "id": ids,
            "kind": pa.array(["ab"[i % 2] for i in ids]),
            "size": pa.array(np.arange(rows) % 7, pa.float32()),
            "late": pa.array((ids % 3 == 0).astype("int8")),
        }
    )


def folder(path: Path, rows: pa.Table, **facts: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    write_table(path / "table.parquet", rows)
    known = {"known_later": ["delay"], "leaks": [], "problem": "binary", **facts}
    record = TableFacts(["id"], "at", "late", rows.num_rows, {}, ["", ""], {}, **known)
    write_facts(path, record)
    return path


def suite(path: Path, *rules: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"name": "p", "expectations": list(rules)}))
    return path


IN_RANGE = rule("column_values_to_be_between", "row", column="size", min_value=0, max_value=6)
UNIQUE = rule("column_values_to_be_unique", "suite", column="id")
LIMITS = {"rows_min": 10, "rows_max": 10_000, "quarantine_share_max": 0.01, "timeout_s": 60}


def validated(root: Path, rows: pa.Table, *rules: dict[str, Any], **changes: Any) -> Path:
    facts = {name: changes.pop(name) for name in ("leaks", "known_later") if name in changes}
    raw = folder(root / "raw", rows, **facts)
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
    with pytest.raises(SlipwayError, match="'late' must hold both 0 and 1"):
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


WINDOW = {"start": "2024-02-01", "end": "2024-03-01", "share_of_days": 0.5, "rows": 200}


def golden_set(root: Path, data: pa.Table, **changes: Any) -> Path:
    valid = folder(root / "valid", data)
    out = root / "golden"
    out.mkdir()
    golden.run(GoldenConfig.model_validate({**WINDOW, **changes}), valid=valid, golden=out)
    return out


def days_of(out: Path) -> list[str]:
    days: list[str] = json.loads((out / "golden.json").read_text())["days"]
    return days


def test_golden_rows_come_from_golden_days_of_the_window_only(tmp_path: Path):
    out = golden_set(tmp_path, table())
    rows = pq.read_table(out / "golden.parquet")
    assert rows.num_rows == 200
    assert {f"{at:%Y-%m-%d}" for at in rows["at"].to_pylist()} <= set(days_of(out))
    assert all("2024-02-01" <= day < "2024-03-01" for day in days_of(out))


def test_new_data_moves_neither_days_nor_rows(tmp_path: Path):
    before = golden_set(tmp_path / "a", table())
    later = table(first_id=10_000)
    later = later.set_column(
        0,
        "at",
        pa.array([t + timedelta(days=60) for t in later["at"].to_pylist()], pa.timestamp("us")),
    )
    after = golden_set(tmp_path / "b", pa.concat_tables([table(), later]))
    assert days_of(after) == days_of(before)
    assert (after / "golden.parquet").read_bytes() == (before / "golden.parquet").read_bytes()


def test_the_day_rule_never_changes():
    days = [date(2013, 10, d) for d in range(1, 32)]
    assert [d.day for d in days if golden.is_golden(d, 0.5)] == [
        1, 3, 4, 5, 6, 7, 8, 11, 12, 13, 15, 17, 20, 29, 31,
    ]  # fmt: skip


def test_too_few_golden_rows_are_refused_with_the_way_out(tmp_path: Path):
    with pytest.raises(SlipwayError, match=r"fewer than golden\.rows 9,000; widen the window"):
        golden_set(tmp_path, table(), rows=9000)


SPLIT = {
    "categories": {"kind": "What"},
    "numbers": {"size": "How large"},
    "min_category_rows": 5,
    "train": {"start": "2024-01-01", "end": "2024-02-15"},
    "validation": {"start": "2024-02-15", "end": "2024-02-20"},
    "test": {"start": "2024-02-20", "end": "2024-03-01"},
    "shard_rows": 500,
}


def prepared(root: Path, rows: pa.Table, **changes: Any) -> Path:
    held_out = golden_set(root, rows)
    out = root / "prepared"
    out.mkdir()
    config = PrepareConfig.model_validate({**SPLIT, **changes})
    prepare.run(config, valid=root / "valid", golden=held_out, prepared=out)
    return out


def test_no_row_of_a_golden_day_is_ever_trained_on(tmp_path: Path):
    features = read_features(prepared(tmp_path, table()))
    golden_days = set(days_of(tmp_path / "golden"))
    assert any(day < "2024-02-15" for day in golden_days)
    expected = [
        at for at in table()["at"].to_pylist()
        if at < datetime(2024, 2, 15) and f"{at:%Y-%m-%d}" not in golden_days
    ]  # fmt: skip
    assert features["rows"]["train"] == len(expected)


def test_shards_read_as_one_sequence_in_any_order(tmp_path: Path):
    out = prepared(tmp_path, table())
    shards = read_shards(out)
    assert len(list(out.glob("train-*.arrow"))) == -(-len(shards) // 500)
    everything = shards.take(np.arange(len(shards)))
    some = np.array([len(shards) - 1, 0, 777, 500, 499])
    assert np.array_equal(shards.take(some).numbers, everything.numbers[some])
    assert np.array_equal(shards.take(some).labels, everything.labels[some])


def test_values_not_seen_in_training_get_the_code_of_unknown(tmp_path: Path):
    rows = table()
    kinds = rows["kind"].to_pylist()
    kinds[-1], kinds[-2] = "never seen", None
    out = prepared(tmp_path, rows.set_column(2, "kind", pa.array(kinds)))
    assert read_split(out, "test").categories[-2:, 0].tolist() == [0, 0]
    assert read_features(out)["categories"][0]["vocabulary"] == ["a", "b"]


def test_statistics_come_from_training_rows_alone(tmp_path: Path):
    rows = table()
    sizes = rows["size"].to_numpy().copy()
    sizes[-400:] = 1e6
    out = prepared(tmp_path, rows.set_column(3, "size", pa.array(sizes, pa.float32())))
    assert read_features(out)["numbers"][0]["max"] == 6


def test_missing_and_infinite_numbers_become_nan(tmp_path: Path):
    rows = table()
    sizes = rows["size"].to_pylist()
    sizes[-1], sizes[-2] = None, float("inf")
    out = prepared(tmp_path, rows.set_column(3, "size", pa.array(sizes, pa.float32())))
    assert np.isnan(read_split(out, "test").numbers[-2:, 0]).all()


def test_a_feature_that_the_query_does_not_give_is_refused(tmp_path: Path):
    with pytest.raises(SlipwayError, match="names columns that the query does not give: weight"):
        prepared(tmp_path, table(), numbers={"weight": "kg"})


def test_a_number_used_as_a_category_is_refused_with_the_way_out(tmp_path: Path):
    with pytest.raises(SlipwayError, match="must be text, is float; CAST it"):
        prepared(tmp_path, table(), categories={"size": "x"}, numbers={"id": "x"})


def test_a_period_without_rows_is_refused(tmp_path: Path):
    later = {"start": "2025-01-01", "end": "2025-02-01"}
    with pytest.raises(SlipwayError, match=r"no rows in prepare\.test"):
        prepared(tmp_path, table(), test=later)
