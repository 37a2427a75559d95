"""How a source is written is said in its config, and what cannot be meant is refused there."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from slipway.errors import ConfigError
from slipway.sections import read_yaml
from slipway.source import Source


def source(**fields: Any) -> Source:
    return Source.model_validate(
        {"url": "t.csv", "columns": {"id": "int64", "at": "datetime"}, "known_later": [], **fields}
    )


def test_a_column_may_have_any_name_and_one_of_many_types():
    columns = {"order amount": "decimal(10, 2)", "2nd.x": "date", "Größe": "string", "No": "bool"}
    assert source(columns=columns).columns == columns


def test_formats_of_times_are_for_all_columns_or_by_column():
    columns = {"id": "int64", "at": "datetime", "on": "date"}
    every = source(columns=columns, date_format="%d.%m.%Y")
    some = source(columns=columns, date_format={"on": "epoch_s"})
    assert [every.format_of(c) for c in columns] == [None, "%d.%m.%Y", "%d.%m.%Y"]
    assert [some.format_of(c) for c in columns] == [None, None, "epoch_s"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"columns": {"a": "int64", "A": "int64"}}, "SQL cannot tell apart: 'a', 'A'"),
        ({"columns": {" ": "int64"}}, "a column's name is empty"),
        ({"columns": {False: "int64"}}, "a column's name is text; write it in quotes, 'False'"),
        ({"columns": {"a": "float"}}, "no type of a column: 'float'; did you mean 'float64'"),
        ({"columns": {"a": "decimal(50, 2)"}}, "no type of a column"),
        ({"columns": {"a": "decimal(2, 4)"}}, "no type of a column"),
        ({"encoding": "cp9999"}, "no encoding 'cp9999'; such as utf-8"),
        ({"encoding": "base64"}, "no encoding 'base64'"),
        ({"delimiter": "||"}, "at most 1 character"),
        ({"delimiter": ",", "quote": ","}, "delimiter and quote are both ','"),
        ({"thousands": "."}, "thousands and decimal are both '.'"),
        ({"date_format": {"id": "%Y"}}, "date_format names 'id', which is no column of a time"),
        ({"date_format": "epoch"}, "'epoch' is no format of strptime and none of epoch_s"),
        ({"date_format": "%H:%M"}, "'%H:%M' names no year"),
        ({"date_format": "%Y-%m-%d %z"}, "of at: .* reads an offset, .*; declare timestamp"),
        (
            {"columns": {"at": "timestamp"}, "date_format": "%Y-%m-%d"},
            "of at: '%Y-%m-%d' reads no offset",
        ),
        ({"skip_rows": -1}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        source(**fields)


def yaml_of(root: Path, text: str) -> dict[str, Any]:
    (root / "c.yaml").write_text(text, "utf-8")
    return read_yaml(root / "c.yaml", "c.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("No: int64", 'the key No is read as a bool; write it in quotes, "No"'),
        ("2024: int64", 'the key 2024 is read as a int; write it in quotes, "2024"'),
        ("~: int64", 'the key ~ is read as a null; write it in quotes, "~"'),
        ("a: 010", "010 is one number here and another one to DVC"),
        ("a: [0o17]", "0o17 is one number here"),
        ("a: 1:30", "1:30 is one number here"),
        ("a: -08", "-08 is one number here"),
    ],
)
def test_what_yaml_reads_as_something_else_is_refused(tmp_path: Path, text: str, said: str):
    with pytest.raises(ConfigError, match=said):
        yaml_of(tmp_path, text)


def test_numbers_that_are_one_to_everybody_and_texts_in_quotes_stay(tmp_path: Path):
    text = 'a: 0\nb: 10\nc: "010"\n"No": -1.5\ne: 0x1F\nf: "1:30"\n'
    assert yaml_of(tmp_path, text) == {
        "a": 0, "b": 10, "c": "010", "No": -1.5, "e": 31, "f": "1:30",
    }  # fmt: skip
