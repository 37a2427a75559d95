"""Tables of every type: judged as they are, kept as they were, refused in words."""

import math
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.config import ValidateConfig
from slipway.errors import ConfigError, SlipwayError
from tasks import validate
from tasks.expectations import Rule
from tasks.validate import quarantine
from tasks.validate.checks import require_answers
from tasks.validate.columns import is_type
from tasks.validate.relation import OutOfTime
from tests.project import rule as entry
from tests.unit.tasks.small_tables import write_folder
from tests.unit.tasks.test_validate import LIMITS, suite
from tests.unit.tasks.validate.tables import judged, relation_of, rule

BIG = 2**53
EVERY_TYPE = pa.table(
    {
        "at": pa.array([datetime(2024, 1, d) for d in (1, 2, 3, 4)], pa.timestamp("us")),
        "id": pa.array([BIG, BIG + 1, None, 3], pa.int64()),
        "late": pa.array([0, 1, 0, 1], pa.int8()),
        "size": pa.array([0.1, math.nan, 3.0, None], pa.float32()),
        "price": pa.array([Decimal("1.10"), None, Decimal("2.20"), Decimal("9.99")]),
        "day": pa.array([date(2024, 1, 1), None, date(2024, 2, 1), date(2024, 3, 1)]),
        "clock": pa.array([time(8), time(9), None, time(10)], pa.time64("us")),
        "zoned": pa.array([datetime(2024, 1, 1)] * 4, pa.timestamp("ms", "Europe/Berlin")),
        "fine": pa.array([1, 2, 3, None], pa.timestamp("ns")),
        "yes": pa.array([True, None, False, True]),
        "large": pa.array([2**64 - 1, 0, None, 1], pa.uint64()),
        "raw": pa.array([b"\x00\xff", None, b"", b"x"], pa.binary()),
        "list": pa.array([[1, None], None, [], [2]], pa.list_(pa.int32())),
        "kind": pa.array(["a", "b", "a", None]).dictionary_encode(),
        "A": ["x", "y", "z", ""],
        "a": ["1", "2", "3", "4"],
    }
)


def validated(root: Path, table: pa.Table, *rules: dict[str, Any], **changes: Any) -> Path:
    limits = {**LIMITS, "rows_min": 1, "quarantine_share_max": 0.5, **changes}
    raw = write_folder(root / "raw", table)
    (root / "valid").mkdir()
    validate.run(
        ValidateConfig.model_validate(limits),
        expectations=suite(root / "suite.json", *rules),
        raw=raw,
        valid=root / "valid",
        reports=root / "reports",
    )
    return root / "valid"


PRICED = entry("column_values_to_be_between", "row", column="price", max_value=2.2)
IN_ORDER = entry(
    "column_pair_values_a_to_be_greater_than_b", "row", column_A="at", column_B="zoned"
)


def test_every_type_and_every_missing_value_is_kept(tmp_path: Path):
    valid = validated(tmp_path, EVERY_TYPE, PRICED)
    kept = pq.read_table(valid / "table.parquet")
    expected = pq.read_table(tmp_path / "raw/table.parquet").slice(0, 3)
    assert kept.schema.equals(expected.schema, check_metadata=True)
    assert str(kept.to_pylist()) == str(expected.to_pylist())  # nan is not equal to itself
    aside = pq.read_table(valid / "quarantine.parquet")
    assert aside["price"].to_pylist() == [Decimal("9.99")]
    assert aside["reason"].to_pylist() == ['price: column values to be between {"max_value": 2.2}']


def test_the_same_table_gives_the_same_bytes(tmp_path: Path):
    names = ("table.parquet", "quarantine.parquet", "table.json", "validation.json")
    first, second = (validated(tmp_path / name, EVERY_TYPE, PRICED) for name in ("a", "b"))
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_rule_over_two_columns_sets_rows_aside(tmp_path: Path):
    pair = entry(
        "column_pair_values_to_be_in_set", "row",
        column_A="A", column_B="a", value_pairs_set=[["x", "1"], ["y", "2"], ["z", "3"]],
    )  # fmt: skip
    aside = pq.read_table(validated(tmp_path, EVERY_TYPE, pair) / "quarantine.parquet")
    assert aside["A"].to_pylist() == [""]
    assert aside["reason"].to_pylist()[0].startswith("A, a: column pair values to be in set")


def test_a_row_that_breaks_several_rules_names_them_all(tmp_path: Path):
    named = entry("column_values_to_not_be_in_set", "row", column="A", value_set=["", "z"])
    aside = pq.read_table(validated(tmp_path, EVERY_TYPE, named, PRICED) / "quarantine.parquet")
    assert [len(reason.split("; ")) for reason in aside["reason"].to_pylist()] == [1, 2]


@pytest.mark.parametrize(
    ("judged_by", "broken"),
    [
        (rule("column_values_to_be_unique", column="id"), 0),  # as floats two would be the same
        (rule("column_values_to_be_between", column="id", max_value=BIG), 1),
        (rule("column_values_to_be_in_set", column="id", value_set=[BIG + 1, 3]), 1),
        (rule("column_values_to_be_in_set", column="size", value_set=[0.1, 3]), 0),
        (rule("column_values_to_not_be_null", column="size"), 2),  # not a number is missing
        (rule("column_values_to_be_between", column="size", max_value=0.1), 1),
        (rule("column_values_to_be_between", column="price", min_value=1.1, strict_min=True), 1),
        (rule("column_values_to_be_between", column="price", max_value=9.989), 1),
        (rule("column_values_to_be_between", column="day", min_value="2024-02-01"), 1),
        (rule("column_values_to_be_between", column="zoned", max_value="2024-01-01"), 0),
        (rule("column_values_to_be_between", column="large", max_value=1), 1),
        (rule("column_values_to_be_between", column="large", min_value=-1), 0),
        (rule("column_values_to_be_in_set", column="day", value_set=["2024-01-01"]), 2),
        (rule("column_values_to_be_in_set", column="clock", value_set=["08:00", "10:00:00"]), 1),
        (rule("column_values_to_be_in_set", column="yes", value_set=[True]), 1),
        (rule("column_values_to_be_in_set", column="kind", value_set=["a"]), 1),
        (rule("column_values_to_match_like_pattern", column="A", like_pattern="_"), 1),
        (rule("column_values_to_not_be_null", column="list"), 1),
        (rule("column_values_to_be_unique", column="list"), 0),
        (rule("compound_columns_to_be_unique", column_list=["late", "kind"]), 2),
        (
            rule("column_values_to_be_between", column="id", max_value=2,
                 row_condition='col("late") == 1', condition_parser="great_expectations"),
            2,
        ),
    ],
    ids=lambda value: value.text if isinstance(value, Rule) else "",
)  # fmt: skip
def test_values_are_compared_in_the_type_of_their_column(
    tmp_path: Path, judged_by: Rule, broken: int
):
    [verdict] = judged(tmp_path, EVERY_TYPE, judged_by)
    assert (verdict.error, verdict.broken) == ("", broken)


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("id", ["int64", "int", "BIGINT"]),
        ("size", ["float", "float32", "REAL"]),
        ("at", ["timestamp[us]", "datetime64[us]", "datetime", "TIMESTAMP"]),
        ("zoned", ["timestamp[ms, tz=Europe/Berlin]", "datetime64[ms, Europe/Berlin]"]),
        ("price", ["decimal128(3, 2)", "DECIMAL(3,2)", "Decimal"]),
        ("day", ["date", "date32[day]"]),
        ("A", ["str", "string", "VARCHAR"]),
        ("list", ["list", "list<element: int32>"]),
    ],
)
def test_a_type_may_be_named_as_any_tool_names_it(tmp_path: Path, column: str, names: list[str]):
    assert all(map(is_type, names))
    rules = [rule("column_values_to_be_of_type", column=column, type_=name) for name in names]
    wrong = rule("column_values_to_be_in_type_list", column=column, type_list=["int16", "time"])
    verdicts = judged(tmp_path, EVERY_TYPE, *rules, wrong)
    assert [v.success for v in verdicts] == [True] * len(names) + [False]
    assert verdicts[-1].observed == str(
        pq.read_schema(tmp_path / "table.parquet").field(column).type
    )


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (rule("column_values_to_match_json_schema", column="A", json_schema={}),
         "cannot be answered from SQL"),
        (rule("column_kl_divergence_to_be_less_than", column="id"), "cannot be answered from SQL"),
        (rule("column_mean_to_be_between", "row", column="id", max_value=1),
         "judges the table, not single rows"),
        (rule("column_values_to_be_in_set", column="id", value_set=["x"]),
         "column 'id' is int64, the text 'x' is none"),
        (rule("column_values_to_be_between", column="day", min_value=3),
         r"column 'day' is date32\[day\], 3.0 is none \(write 2024-12-31\)"),
        (rule("column_mean_to_be_between", column="A", max_value=1),
         "column 'A' is string, not a number"),
        (rule("column_values_to_match_regex", column="A", regex="(?=x)"), "invalid perl operator"),
        (rule("column_values_to_be_between", column="id", lowest=3), "lowest"),
        (rule("column_values_to_be_between", column="id", min_value=BIG + 1), "would be rounded"),
        (rule("column_values_to_be_of_type", column="id", type_="strr"),
         "no type is called 'strr'"),
        (rule("column_pair_values_to_be_equal", column_A="id", column_B="A"),
         "compares columns of different kinds: 'id' is int64, 'A' is string"),
        (rule("column_max_to_be_between", column="ghost", max_value=1),
         "no column 'ghost'; it has: at, id"),
    ],
    ids=lambda value: value.kind if isinstance(value, Rule) else "",
)  # fmt: skip
def test_a_rule_without_an_answer_is_refused_before_the_table_is_read(
    tmp_path: Path, refused: Rule, message: str
):
    with (
        relation_of(tmp_path, EVERY_TYPE) as relation,
        pytest.raises(ConfigError, match=rf"expectations\[1\].*{message}") as caught,
    ):
        require_answers(Path("s.json"), [rule("column_to_exist", column="id"), refused], relation)
    assert len(caught.value.problems) == 1


def test_a_query_that_runs_too_long_is_stopped(tmp_path: Path):
    endless = "SELECT count(*) FROM range(1_000_000_000_000) AS a, range(1_000_000_000_000) AS b"
    with pytest.raises(OutOfTime), relation_of(tmp_path, EVERY_TYPE, 2) as relation:
        relation.rows(endless)


def test_validation_that_never_ends_says_which_limit_it_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tasks.validate.relation.time.monotonic", later())
    with pytest.raises(SlipwayError, match=r"took more than 60 s \(validate.timeout_s\)"):
        validated(tmp_path, EVERY_TYPE, PRICED)


def later() -> Callable[[], float]:
    """Make a clock on which every look takes ten seconds."""
    seconds = iter(range(0, 10**6, 10))
    return lambda: float(next(seconds))


def test_rows_are_parted_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quarantine, "BATCH_ROWS", 2)
    named = entry("column_values_to_not_be_in_set", "row", column="A", value_set=["", "z"])
    valid = validated(tmp_path, EVERY_TYPE, named)
    assert pq.read_table(valid / "table.parquet")["A"].to_pylist() == ["x", "y"]
    assert pq.read_table(valid / "quarantine.parquet")["A"].to_pylist() == ["z", ""]
