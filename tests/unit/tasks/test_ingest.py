"""Sources come in as declared, and only as pinned."""

import gzip
import json
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.config import IngestConfig
from slipway.errors import SlipwayError
from tasks import ingest
from tasks.sources import read_pins, refresh_pin

CSV = "id,at,delay,size\n1,2024-01-01T00:00:00,20,1.5\n2,2024-01-02T00:00:00,0,NA\n"
QUERY = 'SELECT id, "at", size, CAST(delay > 10 AS TINYINT) AS late FROM things'


def config(url: str, query: str = QUERY, **more: Any) -> IngestConfig:
    columns = {"id": "int64", "at": "datetime", "delay": "float64", "size": "float64"}
    source = {"url": url, "columns": columns, "known_later": ["delay"], "null_values": ["NA"]}
    return IngestConfig.model_validate(
        {
            "sources": {"things": {**source, **more}},
            "query": query,
            "key": ["id"],
            "time": "at",
            "target": {"problem": "binary", "column": "late", "positive": 1, "negative": 0},
            "weight": None,
        }
    )


def ingested(root: Path, section: IngestConfig) -> Path:
    refresh_pin(root, "p", section.sources)
    raw = root / "raw"
    raw.mkdir()
    ingest.run(section, sources=root / "data/p/sources.lock", raw=raw)
    return raw


def rows(raw: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(raw / "table.parquet").to_pylist()
    return found


EXPECTED = [
    {"at": datetime(2024, 1, 1), "id": 1, "size": 1.5, "late": 1},
    {"at": datetime(2024, 1, 2), "id": 2, "size": None, "late": 0},
]


def write(path: Path, text: str = CSV) -> str:
    match path.suffixes[-1]:
        case ".gz":
            path.write_bytes(gzip.compress(text.encode()))
        case ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(path.stem, text)
        case ".parquet":
            at = [datetime(2024, 1, 1), datetime(2024, 1, 2)]
            columns = {"id": [1, 2], "at": at, "delay": [20.0, 0.0], "size": [1.5, None]}
            pq.write_table(pa.table(columns), path)
        case ".jsonl":
            lines = [
                {"id": 1, "at": "2024-01-01T00:00:00", "delay": 20, "size": 1.5, "more": "x"},
                {"id": 2, "at": "2024-01-02T00:00:00", "delay": 0},
            ]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        case _:
            path.write_text(text)
    return path.as_uri()


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv.zip", "t.parquet", "t.jsonl"])
def test_every_format_gives_the_same_typed_table(tmp_path: Path, name: str):
    assert rows(ingested(tmp_path, config(write(tmp_path / name)))) == EXPECTED


def test_any_fsspec_url_will_do(tmp_path: Path):
    import fsspec

    fsspec.filesystem("memory").pipe_file("/t.csv", CSV.encode())
    assert rows(ingested(tmp_path, config("memory://t.csv"))) == EXPECTED


def test_what_came_in_is_recorded(tmp_path: Path):
    raw = ingested(tmp_path, config(write(tmp_path / "t.csv")))
    facts = json.loads((raw / "table.json").read_text())
    assert facts["rows"] == 2
    assert facts["time_range"] == ["2024-01-01T00:00:00", "2024-01-02T00:00:00"]
    assert facts["schema"]["size"] == "double"
    assert facts["sources"]["things"]["rows"] == 2
    assert facts["leaks"] == []


def test_a_column_that_follows_what_is_known_later_is_a_leak_under_any_name(tmp_path: Path):
    query = QUERY.replace("size,", "size, size * 0 + sqrt(delay) AS humidity,")
    raw = ingested(tmp_path, config(write(tmp_path / "t.csv"), query))
    assert json.loads((raw / "table.json").read_text())["leaks"] == ["humidity"]


def test_a_copy_in_reverse_order_is_a_leak(tmp_path: Path):
    query = QUERY.replace("size,", "last_value(delay) OVER (ORDER BY id DESC) AS humidity,")
    raw = ingested(tmp_path, config(write(tmp_path / "t.csv"), query))
    assert json.loads((raw / "table.json").read_text())["leaks"] == ["humidity"]


def test_a_query_with_chance_in_it_is_refused(tmp_path: Path):
    query = QUERY.replace("size,", "size + random() AS size,")
    with pytest.raises(SlipwayError, match=r"ingest\.query uses random\(\)"):
        ingested(tmp_path, config(write(tmp_path / "t.csv"), query))


def test_a_key_that_two_rows_share_is_refused(tmp_path: Path):
    url = write(tmp_path / "t.csv", CSV.replace("\n2,", "\n1,"))
    with pytest.raises(SlipwayError, match=r"ingest\.key \(id\) is not unique"):
        ingested(tmp_path, config(url))


def test_a_source_that_changed_under_its_pin_is_refused(tmp_path: Path):
    section = config(write(tmp_path / "t.csv"))
    refresh_pin(tmp_path, "p", section.sources)
    write(tmp_path / "t.csv", CSV.replace("20", "21"))
    (tmp_path / "raw").mkdir()
    with pytest.raises(SlipwayError, match="changed under its pin"):
        ingest.run(section, sources=tmp_path / "data/p/sources.lock", raw=tmp_path / "raw")


def test_the_pin_follows_the_source_and_nothing_else(tmp_path: Path):
    section = config(write(tmp_path / "t.csv"))
    assert refresh_pin(tmp_path, "p", section.sources)
    before = read_pins(tmp_path / "data/p/sources.lock")
    (tmp_path / "t.csv").touch()
    assert not refresh_pin(tmp_path, "p", section.sources)
    write(tmp_path / "t.csv", CSV.replace("20", "30"))
    assert refresh_pin(tmp_path, "p", section.sources)
    assert read_pins(tmp_path / "data/p/sources.lock") != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CSV.replace("size", "sise"), "line 1: no column 'size'; did you mean 'sise'"),
        (CSV.replace("1.5", "big"), "line 2: row 1, column 'size': 'big' is no float64"),
        (CSV[:-6], "line 3: 2 fields, expected 4"),
        ("", "the file is empty"),
    ],
    ids=["missing column", "text in a number", "truncated", "empty file"],
)
def test_a_broken_csv_is_refused_and_names_the_source(tmp_path: Path, text: str, message: str):
    with pytest.raises(SlipwayError, match=message) as caught:
        ingested(tmp_path, config(write(tmp_path / "t.csv", text)))
    assert "source 'things'" in str(caught.value)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zip"])
def test_a_truncated_archive_is_refused(tmp_path: Path, name: str):
    path = tmp_path / name
    write(path)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(SlipwayError, match="truncated or damaged"):
        ingested(tmp_path, config(path.as_uri()))


@pytest.mark.parametrize(
    "url", ["file:///nowhere/t.csv", "pkg://no-such-package/t.csv", "gone://x"]
)
def test_a_url_that_does_not_exist_is_refused(tmp_path: Path, url: str):
    with pytest.raises(SlipwayError, match="source 'things'"):
        ingested(tmp_path, config(url))


def test_an_empty_result_is_refused(tmp_path: Path):
    with pytest.raises(SlipwayError, match="gave no rows"):
        ingested(tmp_path, config(write(tmp_path / "t.csv"), QUERY + " WHERE id > 5"))


def test_a_query_reads_nothing_but_its_sources(tmp_path: Path):
    secret = tmp_path / "secret.csv"
    secret.write_text(CSV)
    query = QUERY.replace("things", f"'{secret}'")
    with pytest.raises(SlipwayError, match=r"ingest\.query"):
        ingested(tmp_path, config(write(tmp_path / "t.csv"), query))


def test_a_query_without_the_label_is_refused(tmp_path: Path):
    with pytest.raises(SlipwayError, match="gives no column late"):
        ingested(tmp_path, config(write(tmp_path / "t.csv"), 'SELECT id, "at" FROM things'))
