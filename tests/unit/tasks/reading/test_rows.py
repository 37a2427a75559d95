"""JSON is lines or an array of objects."""

import json

import pytest

from slipway.errors import SlipwayError
from tests.unit.tasks.reading.sources import Folder

COLUMNS = {"id": "int64", "size": "float64", "town": "string"}
OBJECTS = [{"id": 1, "size": 2.50, "town": "Köln"}, {"town": None, "size": "3", "id": "2"}]
ROWS = [(1, 2.5, "Köln"), (2, 3.0, None)]
LINES = "".join(json.dumps(each) + "\n" for each in OBJECTS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", LINES),
        ("T.NDJSON", LINES.replace("\n", "\r\n\n")),
        ("lines.json", LINES),
        ("array.json", json.dumps(OBJECTS)),
        ("array.jsonl", json.dumps(OBJECTS, indent=2)),
        ("pretty.json", "\n".join(json.dumps(each, indent=2) for each in OBJECTS)),
        ("bom.json", b"\xef\xbb\xbf" + LINES.encode()),
    ],
)
def test_lines_and_arrays_are_read_and_cast_by_the_declared_types(
    folder: Folder, name: str, content: str | bytes
):
    assert folder.rows_of(name, content, COLUMNS) == ROWS


def test_other_encodings_are_read(folder: Folder):
    content = json.dumps(OBJECTS, ensure_ascii=False).encode("utf-16")
    assert folder.rows_of("t.json", content, COLUMNS, encoding="utf-16") == ROWS


def test_a_line_of_two_megabytes_is_a_row(folder: Folder):
    line = json.dumps({**OBJECTS[0], "blob": "x" * 2_200_000})
    assert folder.rows_of("t.jsonl", f"{line}\n", COLUMNS) == ROWS[:1]


def test_an_empty_text_is_a_text_and_no_number(folder: Folder):
    lines = '{"id": "", "town": ""}\n{"id": 1, "town": "?"}\n'
    rows = folder.rows_of("t.jsonl", lines, {"id": "int64", "town": "string"}, null_values=["?"])
    assert rows == [(None, ""), (1, None)]


@pytest.mark.parametrize(
    ("name", "content", "columns", "said"),
    [
        ("t.jsonl", LINES + '{"id": "x"}\n', {}, "row 3, column 'id': 'x' is no int64"),
        ("t.jsonl", '{"id": 1.5}\n', {}, "row 1, column 'id': '1.5' is no int64"),
        ("t.jsonl", '{"id": 12345678901234567890}\n', {}, "of 64 bits"),
        ("t.jsonl", '{"town": {"a": 1}}\n', {}, "column 'town': .* an object or a list"),
        ("t.jsonl", '{"id": [1]}\n', {}, "column 'id': .* an object or a list"),
        ("t.jsonl", LINES + '{"id": 3\n', {}, "line 3: not readable as JSON"),
        ("t.jsonl", LINES + "5\n", {}, "line 3: not readable as JSON: Expected OBJECT"),
        ("t.json", json.dumps(OBJECTS)[:-5], {}, "not readable as JSON, at object 2"),
        ("t.json", '{"data": [1]}', {}, "no row has a value for 'id', 'size', 'town'"),
        ("t.jsonl", '{"id": 1, "size": 1}\n', {}, "no row has a value for 'town'"),
        ("t.json", "[]", {}, "has no rows"),
        ("t.json", "<html></html>", {}, "line 1: neither .* looks like a web page"),
        (
            "t.jsonl",
            '{"at": "2024-01-01T00:00:00Z"}\n',
            {"at": "datetime"},
            "column 'at': .* carries an offset",
        ),
        (
            "t.jsonl",
            '{"at": "2024-01-01T00:00:00"}\n',
            {"at": "timestamp"},
            "column 'at': .* carries no offset",
        ),
    ],
)
def test_what_is_no_table_is_refused_by_its_row(
    folder: Folder, name: str, content: str, columns: dict[str, str], said: str
):
    with pytest.raises(SlipwayError, match=rf"source 'sales' \(\S+\).*{said}") as caught:
        folder.rows_of(name, content, columns or COLUMNS)
    assert "slipway-" not in str(caught.value)  # no name of a temporary file
