import errno
import os
from pathlib import Path

import pytest

from slipway import full_disk


def no_room(number: int = errno.ENOSPC, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


def test_an_error_that_is_no_full_disk_is_left_to_others(tmp_path: Path):
    assert full_disk.explain(FileNotFoundError(2, "no such file"), tmp_path) is None
    assert full_disk.explain(ValueError("no"), tmp_path) is None


def test_the_file_system_of_the_file_that_was_written_is_named(tmp_path: Path):
    told = full_disk.explain(no_room(path=str(tmp_path / "gone/model.onnx")), Path("/proc"))
    assert told is not None
    assert told.startswith(f"no space left on the file system of {tmp_path} (")
    assert "bytes are free" in told
    assert "`slipway prune`" in told


def test_an_error_behind_the_error_counts(tmp_path: Path):
    error = ValueError("the graph was not written")
    error.__cause__ = no_room(path=str(tmp_path))
    assert full_disk.explain(error) is not None


@pytest.mark.parametrize("number", full_disk.FULL)
def test_a_librarys_own_words_for_it_are_known(number: int, tmp_path: Path):
    error = RuntimeError(f"Error while serializing: I/O error: {os.strerror(number)} (os error x)")
    told = full_disk.explain(error, tmp_path)
    assert told is not None
    assert ("quota" in told) == (number == errno.EDQUOT)


def test_a_file_system_below_a_place_counts(tmp_path: Path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"slipway-test {tmp_path}/room/checkpoints tmpfs rw 0 0\n")
    (tmp_path / "room/checkpoints").mkdir(parents=True)
    monkeypatch.setattr(full_disk, "MOUNTS", mounts)
    assert full_disk._mounted_below([tmp_path / "room"]) == [tmp_path / "room/checkpoints"]
    assert full_disk._mounted_below([tmp_path / "other"]) == []


def test_of_several_places_the_one_with_the_least_room_is_named():
    told = full_disk.describe([Path("/tmp"), Path("/proc/self")])
    assert told.startswith("no space left on the file system of /proc/self (proc at /proc): 0 byte")
