"""What a source was is pinned; what cannot be read now is told apart from what never can."""

import json
import os
from pathlib import Path

import pytest

from slipway.config import Source
from slipway.errors import SlipwayError, Unavailable
from tasks.sources import Member, find_changed, open_pinned, read_pins, read_sources, refresh_pin
from tests.support.ports import free_port


def table(url: str) -> dict[str, Source]:
    return {"trips": Source(url=url, columns={"a": "int64"}, known_later=[])}


def test_a_source_whose_server_refuses_the_connection_may_answer_later(tmp_path: Path):
    url = f"http://127.0.0.1:{free_port()}/table.csv"
    with pytest.raises(Unavailable, match=rf"source 'trips' \({url}\) does not answer"):
        read_sources(tmp_path, "p", table(url))


def test_a_file_that_is_not_there_is_not_there_next_time(tmp_path: Path):
    with pytest.raises(SlipwayError, match="does not exist") as refused:
        read_sources(tmp_path, "p", table(f"file://{tmp_path}/table.csv"))
    assert not isinstance(refused.value, Unavailable)


def test_a_file_rewritten_with_its_time_set_back_is_found(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("a\n1\n")
    refresh_pin(tmp_path, "p", table(str(path)))
    before = path.stat()
    path.write_text("a\n2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert find_changed(tmp_path, "p", table(str(path))) == ["trips"]


def test_a_source_that_nobody_touched_is_not_read_again(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("a\n1\n")
    first = read_sources(tmp_path, "p", table(str(path)))
    memory = tmp_path / ".slipway/probes/p.json"
    probes = json.loads(memory.read_text())
    probes["trips"]["pin"]["sha256"] = "as remembered"
    memory.write_text(json.dumps(probes))
    again = read_sources(tmp_path, "p", table(str(path)))
    assert (first["trips"].sha256 == "as remembered", again["trips"].sha256) == (
        False,
        "as remembered",
    )


def test_the_pin_of_a_single_file_says_nothing_of_members(tmp_path: Path):
    (tmp_path / "table.csv").write_text("a\n1\n")
    refresh_pin(tmp_path, "p", table(str(tmp_path / "table.csv")))
    entry = json.loads((tmp_path / "data/p/sources.lock").read_text())["trips"]
    assert [*entry] == ["url", "size_bytes", "sha256"]


def test_the_pin_of_a_folder_is_one_digest_over_its_members(tmp_path: Path):
    folder = tmp_path / "trips"
    folder.mkdir()
    (folder / "a.csv").write_text("a\n1\n")
    refresh_pin(tmp_path, "p", table(str(folder)))
    lock = tmp_path / "data/p/sources.lock"
    first = read_pins(lock)["trips"]
    assert [*first.members] == ["a.csv"]
    assert first.size_bytes == 4
    assert first.members["a.csv"] != Member(4, first.sha256)  # the name is pinned as well

    (folder / "b.csv").write_text("a\n2\n")
    assert find_changed(tmp_path, "p", table(str(folder))) == ["trips"]
    with (
        pytest.raises(SlipwayError, match=r"changed under its pin: b\.csv added, gone or changed"),
        open_pinned("trips", str(folder), first),
    ):
        pass
    assert refresh_pin(tmp_path, "p", table(str(folder)))
    second = read_pins(lock)["trips"]
    assert [*second.members] == ["a.csv", "b.csv"]
    assert second.sha256 != first.sha256

    (folder / "b.csv").rename(folder / "c.csv")
    assert find_changed(tmp_path, "p", table(str(folder))) == ["trips"]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("a\n1\n")
    pin = read_sources(tmp_path, "p", table(str(path)))["trips"]
    with (
        pytest.raises(SlipwayError, match="changed while it was read"),
        open_pinned("trips", str(path), pin),
    ):
        path.write_text("a\n2\n")
