"""Answers from SQL are those of Great Expectations' own pandas engine, where that is right."""

import math
import tempfile
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tasks.validate.engine import gx
from tests.unit.tasks.validate.tables import judged, rule

START = datetime(2024, 1, 1)

ROW = st.fixed_dictionaries(
    {
        "whole": st.integers(-5, 5),
        "other": st.integers(-5, 5),
        "real": st.none() | st.floats(-3, 3, width=32).map(lambda x: round(x, 2)),
        "text": st.none() | st.sampled_from(["", "a", "ab", "abc", "B1", "é", "2024-01-31", "{}"]),
        "moment": st.integers(0, 9).map(lambda days: START + timedelta(days=days)),
        "yes": st.booleans(),
    }
)
SCHEMA = pa.schema(
    {
        "whole": pa.int64(),
        "other": pa.int64(),
        "real": pa.float64(),
        "text": pa.string(),
        "moment": pa.timestamp("us"),
        "yes": pa.bool_(),
    }
)

RULES = [
    rule("table_row_count_to_be_between", min_value=3, max_value=8),
    rule("table_row_count_to_equal", value=5),
    rule("table_column_count_to_equal", value=6),
    rule("table_columns_to_match_set", column_set=["whole", "real"], exact_match=False),
    rule("table_columns_to_match_ordered_list", column_list=list(SCHEMA.names)),
    rule("column_to_exist", column="real"),
    rule("column_to_exist", column="ghost"),
    rule("column_values_to_not_be_null", column="real"),
    rule("column_values_to_be_null", column="text"),
    rule("column_values_to_be_between", column="whole", min_value=-2, max_value=2.5),
    rule("column_values_to_be_between", column="whole", min_value=-2, strict_min=True),
    rule("column_values_to_be_between", column="real", max_value=1, strict_max=True, mostly=0.5),
    rule("column_values_to_be_between", column="moment", min_value="2024-01-04"),
    rule("column_values_to_be_in_set", column="whole", value_set=[1, 2, 3]),
    rule("column_values_to_be_in_set", column="text", value_set=["a", "ab"]),
    rule("column_values_to_not_be_in_set", column="text", value_set=["abc"]),
    rule("column_values_to_be_unique", column="whole"),
    rule("column_values_to_be_unique", column="text"),
    rule("column_value_lengths_to_be_between", column="text", min_value=1, max_value=2),
    rule("column_value_lengths_to_equal", column="text", value=2),
    rule("column_values_to_match_regex", column="text", regex="^[a-z]+$"),
    rule("column_values_to_not_match_regex", column="text", regex="[0-9]"),
    rule("column_values_to_match_regex_list", column="text", regex_list=["a", "b"], match_on="all"),
    rule("column_values_to_not_match_regex_list", column="text", regex_list=["^a$", "1"]),
    rule("column_values_to_match_strftime_format", column="text", strftime_format="%Y-%m-%d"),
    rule("column_values_to_be_json_parseable", column="text"),
    rule("column_values_to_be_increasing", column="whole"),
    rule("column_values_to_be_decreasing", column="moment", strictly=True),
    rule("column_value_z_scores_to_be_less_than", column="whole", threshold=1, double_sided=True),
    rule("column_value_z_scores_to_be_less_than", column="real", threshold=1, double_sided=False),
    rule("column_pair_values_a_to_be_greater_than_b", column_A="whole", column_B="other"),
    rule(
        "column_pair_values_a_to_be_greater_than_b",
        column_A="whole", column_B="real", or_equal=True, ignore_row_if="either_value_is_missing",
    ),
    rule("column_pair_values_to_be_equal", column_A="whole", column_B="real"),
    rule(
        "column_pair_values_to_be_in_set",
        column_A="whole", column_B="text", value_pairs_set=[[1, "a"], [2, None], [0, "ab"]],
    ),
    rule("multicolumn_sum_to_equal", column_list=["whole", "other"], sum_total=3),
    rule("multicolumn_sum_to_equal", column_list=["whole", "real"], sum_total=1),
    rule("multicolumn_values_to_be_equal", column_list=["whole", "other"]),
    rule("select_column_values_to_be_unique_within_record", column_list=["whole", "other"]),
    rule("compound_columns_to_be_unique", column_list=["whole", "text"]),
    rule("column_min_to_be_between", column="real", min_value=-2),
    rule("column_max_to_be_between", column="whole", max_value=4, strict_max=True),
    rule("column_max_to_be_between", column="moment", max_value="2024-01-08"),
    rule("column_mean_to_be_between", column="real", min_value=-1, max_value=1),
    rule("column_median_to_be_between", column="real", min_value=-1, max_value=1),
    rule("column_stdev_to_be_between", column="whole", min_value=1, max_value=3),
    rule("column_sum_to_be_between", column="whole", min_value=-10, max_value=10),
    rule(
        "column_quantile_values_to_be_between",
        column="whole",
        quantile_ranges={"quantiles": [0.1, 0.5, 0.9], "value_ranges": [[-5, 0], [-1, 1], [0, 5]]},
    ),
    rule("column_unique_value_count_to_be_between", column="whole", min_value=3),
    rule("column_proportion_of_unique_values_to_be_between", column="text", max_value=0.7),
    rule("column_proportion_of_non_null_values_to_be_between", column="text", min_value=0.6),
    rule("column_most_common_value_to_be_in_set", column="whole", value_set=[0, 1], ties_okay=True),
    rule("column_distinct_values_to_be_in_set", column="text", value_set=["a", "ab", "B1"]),
    rule("column_distinct_values_to_contain_set", column="whole", value_set=[0, 1]),
    rule("column_distinct_values_to_equal_set", column="yes", value_set=[True, False]),
]  # fmt: skip


def by_pandas(table: pa.Table) -> list[tuple[Any, ...]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
        asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("table")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch(
            {"dataframe": table.to_pandas()}
        )
        suite = gx.ExpectationSuite(name="suite")
        for number, one in enumerate(RULES):
            cls = gx.expectations.registry.get_expectation_impl(one.kind)
            suite.add_expectation(cls(**one.kwargs, meta={"rule": number}))
        results = {r.expectation_config.meta["rule"]: r for r in batch.validate(suite).results}
    return [
        comparable(
            bool(results[i].success),
            results[i].result.get("unexpected_count"),
            results[i].result.get("observed_value"),
        )
        if not raised(results[i])
        else ()
        for i in range(len(RULES))
    ]


def raised(result: Any) -> bool:
    info = result.exception_info
    parts = [info] if "raised_exception" in info else info.values()
    return any(part["raised_exception"] for part in parts)


def comparable(success: bool, broken: int | None, observed: Any) -> tuple[Any, ...]:
    return success, broken, plain(observed)


def plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: plain(one) for name, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case str() | None | bool():
            return value
        case datetime():
            return value.isoformat()
    number = float(value)
    return None if math.isnan(number) else float(f"{number:.9g}")


def require_same(rows: list[dict[str, Any]]) -> None:
    """Judge some rows both ways."""
    table = pa.Table.from_pylist(rows, SCHEMA)
    with tempfile.TemporaryDirectory() as folder:
        verdicts = judged(Path(folder), table, *RULES)
    assert [v.error for v in verdicts] == [""] * len(RULES)
    ours = [comparable(v.success, v.broken, v.observed) for v in verdicts]
    theirs = by_pandas(table)
    named = [one.text for one in RULES]
    differ = [(n, a, b) for n, a, b in zip(named, ours, theirs, strict=True) if b and a != b]
    assert differ == []
    silent = [one.columns for one, judgement in zip(RULES, theirs, strict=True) if not judgement]
    assert all(columns == ["moment"] for columns in silent)  # it compares no moment with a day


@pytest.mark.filterwarnings("ignore")
def test_a_small_table_is_judged_as_pandas_judges_it():
    texts = ["a", None, "abc", "2024-01-31", "{}", "a"]
    require_same(
        [
            {
                "whole": i % 4 - 1,
                "other": 2 - i % 3,
                "real": None if i == 2 else i / 4,
                "text": text,
                "moment": START + timedelta(days=i),
                "yes": i > 2,
            }
            for i, text in enumerate(texts)
        ]
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=25, deadline=None, database=None, phases=[Phase.generate])
@given(st.lists(ROW, min_size=2, max_size=8))
def test_every_rule_is_judged_as_pandas_judges_it(rows: list[dict[str, Any]]):
    require_same(rows)
