import io
import os
import uuid
from pathlib import Path

import pytest

from flows.backup.archive import Archive, ChangedWhileRead
from flows.backup.snapshot import Piece
from slipway.errors import SlipwayError
from tests.snapshots import make_snapshot, sha256

DATA = os.urandom(3_000_000)


def piece(data: bytes) -> Piece:
    return Piece(sha256=sha256(data), size_bytes=len(data))


@pytest.fixture(params=["path", "file", "memory"])
def archive(request, tmp_path) -> Archive:
    urls = {
        "path": str(tmp_path / "a b ü"),
        "file": f"file://{tmp_path}/archive",
        "memory": f"memory://{uuid.uuid4().hex}",
    }
    found = Archive(urls[request.param])
    found.prepare()
    return found


@pytest.fixture
def local(tmp_path) -> Archive:
    found = Archive(str(tmp_path / "archive"))
    found.prepare()
    return found


def test_an_object_comes_back_to_the_byte(archive):
    archive.put(piece(DATA), lambda: io.BytesIO(DATA))
    assert archive.sizes() == {sha256(DATA): len(DATA)}
    assert archive.read(piece(DATA)) == DATA


def test_bytes_that_changed_on_the_way_in_never_get_the_name(archive):
    with pytest.raises(ChangedWhileRead, match="changed while it was copied"):
        archive.put(piece(DATA), lambda: io.BytesIO(DATA[:-1] + b"x"))
    assert archive.sizes() == {}


def test_an_object_that_was_cut_off_is_written_over(archive):
    archive._fs.pipe_file(archive._object(sha256(DATA)), DATA[:100])
    archive.put(piece(DATA), lambda: io.BytesIO(DATA))
    assert archive.read(piece(DATA)) == DATA


def test_an_object_that_is_not_what_its_name_says_is_noticed(archive):
    archive._fs.pipe_file(archive._object(sha256(DATA)), DATA[:-1] + b"x")
    with pytest.raises(ChangedWhileRead, match="is damaged"):
        archive.read(piece(DATA))


def test_an_object_that_is_gone_is_noticed(archive):
    with pytest.raises(ChangedWhileRead, match="is missing"):
        archive.read(piece(DATA))


def test_snapshots_are_listed_by_time_and_read_back(archive):
    later, earlier = (make_snapshot(at=f"2026-11-{day}T00:00:00+00:00") for day in (30, 29))
    names = [archive.seal(later), archive.seal(earlier)]
    assert archive.snapshots() == sorted(names)
    assert archive.snapshot(names[0]) == later


def test_a_place_without_anything_has_no_snapshot(tmp_path):
    assert Archive(str(tmp_path / "none")).snapshots() == []
    assert Archive(str(tmp_path / "none")).sizes() == {}


def test_a_url_that_nothing_reads_is_told(tmp_path):
    with pytest.raises(SlipwayError, match="nonsense"):
        Archive("nonsense://x")


def test_what_was_being_written_when_the_machine_died_is_no_object(local, tmp_path):
    aside = tmp_path / f"archive/objects/.{sha256(DATA)}.part"
    aside.write_bytes(DATA[:1000])
    local.put(piece(DATA), lambda: io.BytesIO(DATA))
    assert not aside.exists()
    assert local.sizes() == {sha256(DATA): len(DATA)}


def test_a_folder_of_this_machine_is_for_its_owner_alone(local, tmp_path):
    assert Path(tmp_path / "archive").stat().st_mode & 0o777 == 0o700
