"""What a source holds, as ingest reads it: counts, ranges, frequent values."""

import gzip
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.config import Source
from slipway.errors import SlipwayError
from tasks.profiles import ColumnProfile, read_profiles, write_profiles
from tasks.profiling import profile
from tasks.sources import read_pins, refresh_pin

ROWS = [
    "id,kind,size,at,extra,on",
    *(f"{i},{'ab'[i % 2]},{i / 2},2024-01-{i + 1:02}T00:00:00,x,true" for i in range(24)),
    "24,rare,NaN,,y,false",
    "25,,,2023-12-31T00:00:00,,",
]
READS = {"id": "int64", "kind": "string", "size": "float64", "at": "datetime", "on": "bool"}


def measured(root: Path, name: str, columns: dict[str, str] | None = None):
    url = (root / name).as_uri()
    source = Source(url=url, columns=columns or READS, known_later=[], null_values=["NaN"])
    refresh_pin(root, "p", {"things": source})
    return profile("things", source, read_pins(root / "data/p/sources.lock")["things"])


def test_a_csv_is_counted_as_it_is_read(tmp_path: Path):
    (tmp_path / "t.csv").write_text("\n".join(ROWS))
    found = measured(tmp_path, "t.csv")
    assert found.rows == 26
    assert found.unread == {"extra": ""}
    assert found.columns == {
        "id": ColumnProfile("int64", nulls=0, low=0, high=25),
        "kind": ColumnProfile("string", nulls=1, distinct=3, frequent={"a": 12, "b": 12}),
        "size": ColumnProfile("float64", nulls=2, low=0.0, high=11.5),
        "at": ColumnProfile(
            "datetime", nulls=1, low="2023-12-31T00:00:00", high="2024-01-24T00:00:00"
        ),
        "on": ColumnProfile("bool", nulls=1, distinct=2, frequent={"true": 24}),
    }


def test_what_is_packed_is_as_what_is_not(tmp_path: Path):
    text = "\n".join(ROWS)
    (tmp_path / "t.csv").write_text(text)
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress(text.encode()))
    with zipfile.ZipFile(tmp_path / "z.csv.zip", "w") as archive:
        archive.writestr("inside.csv", text)
    plain = measured(tmp_path, "t.csv")
    for name in ("z.csv.gz", "z.csv.zip"):
        packed = measured(tmp_path, name)
        assert (packed.rows, packed.columns, packed.unread) == (
            plain.rows,
            plain.columns,
            plain.unread,
        )


def test_parquet_says_what_types_it_has_and_nan_is_no_value(tmp_path: Path):
    table = pa.table(
        {
            "id": pa.array([1, 2, 3], pa.int32()),
            "size": [float("nan"), float("-inf"), -0.0],
            "more": [b"", b"", b""],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    found = measured(tmp_path, "t.parquet", {"id": "int64", "size": "float64"})
    assert found.columns["id"] == ColumnProfile("int32", nulls=0, low=1, high=3)
    assert found.columns["size"] == ColumnProfile("double", nulls=1, low=float("-inf"), high=0.0)
    assert found.unread == {"more": "binary"}
    write_profiles(tmp_path / "accepted.json", {"things": found})
    assert read_profiles(tmp_path / "accepted.json") == {"things": found}


def test_lines_of_json_are_read_too(tmp_path: Path):
    (tmp_path / "t.jsonl").write_text('{"id": 1, "kind": "a"}\n{"id": 2, "other": 5}\n')
    found = measured(tmp_path, "t.jsonl", {"id": "int64", "kind": "string"})
    assert (found.rows, found.columns["kind"].nulls, found.columns["kind"].distinct) == (2, 1, 1)


def test_a_column_of_many_or_long_or_rare_values_names_none_of_them(tmp_path: Path):
    rows = [f"u{i}@example.org,{'t' * 61},only {i // 9}" for i in range(1500)]
    (tmp_path / "t.csv").write_text("\n".join(["mail,text,few", *rows]))
    found = measured(tmp_path, "t.csv", {"mail": "string", "text": "string", "few": "string"})
    assert found.columns["mail"] == ColumnProfile("string", nulls=0)
    assert found.columns["text"] == ColumnProfile("string", nulls=0, distinct=1)
    assert found.columns["few"] == ColumnProfile("string", nulls=0, distinct=167)


def test_frequent_values_are_few_and_their_order_is_not_that_of_the_rows(tmp_path: Path):
    values = [f"v{i:02}" for i in range(30) for _ in range(10 + i % 2)]
    for name, ordered in (("a.csv", values), ("b.csv", values[::-1])):
        (tmp_path / name).write_text("\n".join(["kind", *ordered]))
    first, second = (measured(tmp_path, n, {"kind": "string"}) for n in ("a.csv", "b.csv"))
    assert list(first.columns["kind"].frequent.items()) == list(
        second.columns["kind"].frequent.items()
    )
    assert len(first.columns["kind"].frequent) == 20
    write_profiles(tmp_path / "one.json", {"s": first})
    again = measured(tmp_path, "a.csv", {"kind": "string"})
    write_profiles(tmp_path / "two.json", {"s": again})
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,kind\n1,a\n", "size"),
        ("", "things"),
        ("id,kind,size,at,on\n1.5,a,1,2024-01-01T00:00:00,true\n", "1.5"),
    ],
    ids=["a column less", "empty", "another type"],
)
def test_what_cannot_be_read_as_the_config_says_is_said(tmp_path: Path, text: str, said: str):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SlipwayError, match=said):
        measured(tmp_path, "t.csv")


def test_a_truncated_archive_is_said(tmp_path: Path):
    whole = gzip.compress("\n".join(ROWS).encode())
    (tmp_path / "t.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SlipwayError, match="truncated or damaged"):
        measured(tmp_path, "t.csv.gz")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "sources": {}}', "{}}"])
def test_a_broken_profile_is_refused_with_what_to_do(tmp_path: Path, text: str):
    path = tmp_path / "accepted.json"
    path.write_text(text)
    with pytest.raises(SlipwayError, match="git checkout"):
        read_profiles(path)


def test_a_profile_is_json_that_others_can_read(tmp_path: Path):
    (tmp_path / "t.csv").write_text("\n".join(ROWS))
    write_profiles(tmp_path / "a.json", {"things": measured(tmp_path, "t.csv")})
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["sources"]["things"]["columns"]["id"]["high"] == 25
