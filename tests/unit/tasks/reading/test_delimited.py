"""Delimited text is read in the dialect that the config says, or refused by file and line."""

import csv
import io
import random

import pytest

from slipway.errors import SlipwayError
from tests.unit.tasks.reading.sources import Folder

COLUMNS = {"id": "int64", "town": "string"}
ROWS = [(1, "Köln"), (2, "NA"), (3, None)]
TEXT = "id,town\n1,Köln\n2,NA\n3,\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "latin-1"]
)
def test_text_of_any_encoding_is_the_same_text(folder: Folder, encoding: str):
    written = TEXT.encode(encoding)
    assert folder.rows_of("t.csv", written, COLUMNS, encoding=encoding) == ROWS


def test_a_category_named_na_stays(folder: Folder):
    assert folder.rows_of("t.csv", TEXT, COLUMNS) == ROWS


@pytest.mark.parametrize("mark", ["?", "-", "n/a", "#N/A", "None", "\\N", " NA", "0 missing"])
def test_what_is_no_value_is_what_the_config_says(folder: Folder, mark: str):
    text = f'id,size,town\n1,{mark},"{mark}"\n2,1.5,\n'
    columns = {"size": "float64", "town": "string"}
    rows = folder.rows_of("t.csv", text, columns, null_values=[mark])
    assert rows == [(None, None), (1.5, None)]


@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.txt"])
def test_the_endings_of_delimited_text(folder: Folder, name: str):
    assert folder.rows_of(name, TEXT, COLUMNS) == ROWS


def test_a_tsv_is_parted_by_tabs_unless_the_config_says_otherwise(folder: Folder):
    assert folder.rows_of("t.tsv", TEXT.replace(",", "\t"), COLUMNS) == ROWS
    assert folder.rows_of("s.tsv", TEXT.replace(",", ";"), COLUMNS, delimiter=";") == ROWS


def test_columns_are_found_by_their_names_whatever_these_are(folder: Folder):
    columns = {"2nd.x": "int64", "order amount": "float64", 'Größe "': "string", "No": "bool"}
    text = 'order amount,other,2nd.x,"Größe """,No\n1.5,x,2,y,true\n'
    assert folder.rows_of("t.csv", text, columns) == [(2, 1.5, "y", True)]


def test_a_source_may_have_any_name(folder: Folder):
    import duckdb

    from slipway.config import Source
    from tasks.reading.packing import PlainFile
    from tasks.reading.table import load

    path = folder.write("t.csv", TEXT)
    source = Source(url=str(path), columns=COLUMNS, known_later=[])
    with duckdb.connect() as database:
        load(database, "incoming", source, [PlainFile("", "t.csv", path)])
        assert database.sql("FROM incoming").fetchall() == ROWS


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_in_fields_stay_as_they_are(folder: Folder, end: str):
    rows = [(i, f'two\nlines, "{i}"\r\nand more') for i in range(24_000)]
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=end).writerows([("id", "town"), *rows])
    assert folder.rows_of("t.csv", out.getvalue(), COLUMNS) == rows


def test_lines_that_end_in_several_ways_are_read_all_the_same(folder: Folder):
    text = 'id,town\r\n1,a\n2,"b\r\nc"\r\n3,d\n'
    assert folder.rows_of("t.csv", text, COLUMNS) == [(1, "a"), (2, "b\r\nc"), (3, "d")]


def test_broken_text_is_refused_or_read_as_pythons_parser_reads_it(folder: Folder):
    """DuckDB alone leaves out what follows a quote that nothing closes."""
    dice = random.Random(3)
    fields = ["", "a", "x,y", 'q"q', "line\nline", "cr\r\nlf", '"']
    for _ in range(60):
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator=dice.choice(["\n", "\r\n"])).writerows(
            [("id", "town"), *((i, dice.choice(fields)) for i in range(6))]
        )
        text = out.getvalue()
        place = dice.randrange(10, len(text))
        text = dice.choice([text[:place], text[:place] + '"' + text[place:]])
        expected = parsed(text)
        columns = {"id": "string", "town": "string"}
        if expected is None:
            with pytest.raises(SlipwayError, match=r"t\.csv\), line \d+: "):
                folder.rows_of("t.csv", text, columns)
        else:
            assert folder.rows_of("t.csv", text, columns) == expected, text


def parsed(text: str) -> list[tuple[str | None, ...]] | None:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))[1:]
    except csv.Error:
        return None
    rows = [row[:2] if not any(row[2:]) else row for row in rows if row]
    if not rows or any(len(row) != 2 for row in rows):
        return None
    return [tuple(field or None for field in row) for row in rows]


def test_a_line_of_three_million_characters_is_a_line(folder: Folder):
    [(_, town)] = folder.rows_of("t.csv", f"id,town\n1,{'x' * 3_000_000}\n", COLUMNS)
    assert len(town) == 3_000_000


def test_lines_above_the_names_are_skipped_as_told(folder: Folder):
    text = f"Towns\n\n# by the mayor\n{TEXT}"
    assert folder.rows_of("t.csv", text, COLUMNS, skip_rows=3) == ROWS


def test_empty_lines_are_no_rows(folder: Folder):
    assert folder.rows_of("t.csv", f"\n\n{TEXT}\n\n", COLUMNS) == ROWS


def test_empty_lines_are_no_rows_of_one_column_either_where_line_ends_differ(folder: Folder):
    assert folder.rows_of("t.csv", "id\r\n1\n\n2\n", {"id": "int64"}) == [(1,), (2,)]


def test_quotes_may_mean_nothing(folder: Folder):
    rows = folder.rows_of("t.csv", 'id,town\n1,"a\n2,b"\n', COLUMNS, quote="")
    assert rows == [(1, '"a'), (2, 'b"')]


def test_a_column_without_a_name_that_nothing_reads_does_no_harm(folder: Folder):
    assert folder.rows_of("t.csv", ",id,town\n0,1,a\n", COLUMNS) == [(1, "a")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": the file is empty"),
        ("\n\n", ": there is no line to name the columns"),
        ("id,town\n", "has no rows"),
        (TEXT.replace("town", "twon"), ", line 1: no column 'town'; did you mean 'twon'?"),
        (TEXT.replace(",", ";"), 'line 1 has them: write `delimiter: ";"`'),
        (f"Towns\n# a\n{TEXT}", ", line 1: no column 'id', 'town'; .* write `skip_rows: 2`"),
        (f"{TEXT}Total,\n", r", line 5: row 4, column 'id': 'Total' is no int64; .* a total"),
        (f"{TEXT}sum\n", ", line 5: 1 field, expected 2: 'sum'"),
        (f"{TEXT}4,a,b\n", ", line 5: 3 fields, expected 2: '4 | a | b'"),
        (f'{TEXT}4,"a\n', ', line 5: .* a " is opened and not closed'),
        ("id,town,ID\n1,a,2\n", ", line 1: columns that cannot be told apart: 'id', 'ID'"),
        ("id,town,town\n1,a,b\n", ", line 1: columns that cannot be told apart: 'town', 'town'"),
        ('id,town\n1,"a\nb"\nx,c\n', ", line 4: row 2, column 'id': 'x' is no int64"),
    ],
)
def test_a_file_is_refused_by_its_line_with_what_to_do(folder: Folder, text: str, said: str):
    with pytest.raises(
        SlipwayError, match=rf"source 'sales' \(\S+t\.csv\){'' if said[0] in ':,' else '.*'}{said}"
    ):
        folder.rows_of("t.csv", text, COLUMNS)


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (TEXT.encode("cp1252"), None, "line 2: the byte 0xf6 is not utf-8; write the `encoding`"),
        (TEXT.encode("utf-16"), None, "begins with the mark of utf-16, .* `encoding: utf-16`"),
        (b"id,t\xf6wn\n1,a\n", None, "line 1: the byte 0xf6 is not utf-8"),
        (b"id,town\n1,\x81\n", "cp1252", "line 2: the byte 0x81 is not cp1252"),
    ],
)
def test_another_encoding_is_refused_with_the_option(
    folder: Folder, content: bytes, encoding: str | None, said: str
):
    with pytest.raises(SlipwayError, match=said):
        folder.rows_of("t.csv", content, COLUMNS, encoding=encoding)
