"""A source is a file, a folder or a glob of files, packed or not."""

import bz2
import gzip
import io
import os
import zipfile

import fsspec
import pyarrow as pa
import pytest

from slipway.errors import SlipwayError
from tests.unit.tasks.reading.sources import Folder

COLUMNS = {"id": "int64", "town": "string"}
FIRST, SECOND = "id,town\n1,a\n", "id,town\n2,b\n"
ONE, TWO = [(1, "a")], [(1, "a"), (2, "b")]


def zipped(**members: str | bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def by_name(value: object) -> str:
    """Name a case by its texts, not by its bytes: gzip writes the time into them."""
    return value if isinstance(value, str) else "content"


def zstd(text: str) -> bytes:
    packed: bytes = pa.compress(text.encode(), codec="zstd", asbytes=True)
    return packed


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv.gz", gzip.compress(FIRST.encode())),
        ("two-members.csv.gz", gzip.compress(b"id,to") + gzip.compress(b"wn\n1,a\n")),
        ("t.csv.bz2", bz2.compress(FIRST.encode())),
        ("T.CSV.ZST", zstd("id,town\n") + zstd("1,a\n")),
        ("t.zip", zipped(**{"in/t.csv": FIRST})),
        ("mac.zip", zipped(**{"t.csv": FIRST, "__MACOSX/._t.csv": b"\0", ".DS_Store": b"\0"})),
        ("t.csv.gz.zip", zipped(**{"t.csv.gz": gzip.compress(FIRST.encode())})),
    ],
    ids=by_name,
)
def test_what_is_packed_is_unpacked(folder: Folder, name: str, content: bytes):
    assert folder.rows_of(name, content, COLUMNS) == ONE


def test_the_tables_in_a_zip_are_one_in_the_order_of_their_names(folder: Folder):
    assert folder.rows_of("t.zip", zipped(**{"b.csv": SECOND, "a.csv": FIRST}), COLUMNS) == TWO


def test_the_files_of_a_folder_are_one_table_in_the_order_of_their_names(folder: Folder):
    for name, text in {"b.csv": SECOND, "a.csv": FIRST, ".a.csv": "", "_SUCCESS": ""}.items():
        folder.write(f"towns/{name}", text)
    for url in (folder.root / "towns", f"{folder.root}/towns/", f"{folder.root}/towns/*.csv"):
        assert folder.read(url, COLUMNS) == TWO


def test_members_may_have_their_columns_in_any_order(folder: Folder):
    folder.write("towns/a.csv", FIRST)
    folder.write("towns/b.csv", "town,id\nb,2\n")
    assert folder.read(folder.root / "towns", COLUMNS) == TWO


def test_folders_name_the_values_of_columns(folder: Folder):
    for year in ("2023", "2024", "__HIVE_DEFAULT_PARTITION__"):
        folder.write(f"towns/year={year}/of%20day=a%2Fb/part.csv", FIRST)
    rows = folder.read(folder.root / "towns", {"year": "int64", "of day": "string", "id": "int64"})
    assert rows == [(2023, "a/b", 1), (2024, "a/b", 1), (None, "a/b", 1)]


@pytest.mark.parametrize("name", ["my towns.csv", "a%20b.csv", "w[1]*?.csv", "ä'\".csv"])
def test_a_file_may_have_any_name(folder: Folder, name: str):
    folder.write("w1 as a glob has it.csv", SECOND)
    assert folder.rows_of(name, FIRST, COLUMNS) == ONE


def test_a_url_may_write_a_space_as_urls_do(folder: Folder):
    assert folder.read(folder.write("my towns.csv", FIRST).as_uri(), COLUMNS) == ONE


def test_urls_may_be_chained(folder: Folder):
    archive = folder.write("t.zip", zipped(**{"in/t.csv": FIRST}))
    assert folder.read(f"zip://in/t.csv::{archive.as_uri()}", COLUMNS) == ONE
    plain = folder.write("t.csv", FIRST).as_uri()
    assert folder.read(f"simplecache::{plain}", COLUMNS) == ONE


def test_folders_and_globs_are_found_on_any_file_system(folder: Folder):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/towns/a.csv", FIRST.encode())
    memory.pipe_file("/towns/b.csv", SECOND.encode())
    try:
        assert folder.read("memory://towns", COLUMNS) == TWO
        assert folder.read("memory://towns/*.csv", COLUMNS) == TWO
    finally:
        memory.rm("/towns", recursive=True)


LOCKED, DEFLATE64 = bytearray(zipped(**{"t.csv": FIRST})), bytearray(zipped(**{"t.csv": FIRST}))
LOCKED[6] |= 1
LOCKED[LOCKED.find(b"PK\1\2") + 8] |= 1
DEFLATE64[8] = DEFLATE64[DEFLATE64.find(b"PK\1\2") + 10] = 9


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv.gz", b"<!DOCTYPE html><html>", "no .gz archive, .* looks like a web page"),
        ("t.csv.gz", gzip.compress(os.urandom(5000))[:2000], "truncated or damaged"),
        ("t.csv.bz2", bz2.compress(os.urandom(5000))[:2000], "truncated or damaged"),
        ("t.csv.zst", zstd("x" * 5000)[:-4], "truncated or damaged"),
        ("t.zip", zipped(**{"t.csv": FIRST})[:-9], "truncated or damaged"),
        ("t.zip", bytes(LOCKED), "'t.csv' is locked with a password"),
        ("t.zip", bytes(DEFLATE64), "such as Deflate64; pack it again"),
        ("t.zip", zipped(**{"t.pdf": "x"}), "unknown format '.pdf' of 't.pdf'; known: .csv"),
        ("t.zip", zipped(**{"a.csv": FIRST, "b.json": "[]"}), "b.json: csv and json in one source"),
        ("t.zip", zipped(**{".DS_Store": ""}), "the zip holds no file"),
        ("t.csv.gz", b"", "the file is empty"),
        ("towns.xlsx", b"PK", "unknown format '.xlsx'"),
    ],
    ids=by_name,
)
def test_what_cannot_be_unpacked_is_refused_by_a_sentence(
    folder: Folder, name: str, content: bytes, said: str
):
    with pytest.raises(SlipwayError, match=rf"source 'sales' \(\S+\).*{said}"):
        folder.rows_of(name, content, COLUMNS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,town,size\n2,b,1\n", "other columns than a.csv: it has 'size'"),
        ("id,town\n2,b\nx,c\n", "line 3: row 2, column 'id': 'x' is no int64"),
        ("id,town\n2\n", "line 2: 1 field, expected 2"),
        ("", ": the file is empty"),
        (b"id,town\n2,\xff\n", "line 2: the byte 0xff is not utf-8"),
    ],
)
def test_what_is_wrong_with_a_member_names_it(folder: Folder, content: str | bytes, said: str):
    folder.write("towns/a.csv", FIRST)
    folder.write("towns/in/b.csv", content)
    with pytest.raises(SlipwayError, match=rf"source 'sales' \(\S+\), in/b\.csv.*{said}"):
        folder.read(folder.root / "towns", COLUMNS)


@pytest.mark.parametrize("url", ["towns/*.tsv", "towns"])
def test_a_folder_or_a_glob_without_files_is_refused(folder: Folder, url: str):
    folder.write("towns/.hidden", "")
    with pytest.raises(SlipwayError, match=r"there is no file; known: \.csv"):
        folder.read(folder.root / url, COLUMNS)


def test_nothing_is_written_beside_a_source(folder: Folder):
    path = folder.write("towns/t.csv", "id,town\r\n1,a\n")  # of two line ends: it is rewritten
    assert folder.read(path, COLUMNS) == ONE
    assert [*path.parent.iterdir()] == [path]
