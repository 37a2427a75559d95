"""What a stage wrote is what the next one reads, or it is refused."""

import subprocess
from pathlib import Path

import pytest

from slipway.errors import SlipwayError
from tasks import sums


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    (tmp_path / "a.arrow").write_bytes(b"rows")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/b.json").write_bytes(b"{}")
    sums.write(tmp_path)
    return tmp_path


def test_an_untouched_folder_passes(sealed: Path):
    sums.check(sealed)


def test_sha256sum_itself_agrees(sealed: Path):
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=sealed, capture_output=True)
    assert checked.returncode == 0


def test_a_flipped_byte_is_named(sealed: Path):
    (sealed / "a.arrow").write_bytes(b"rowt")
    with pytest.raises(SlipwayError, match=r"a\.arrow differs from its SHA-256"):
        sums.check(sealed)


def test_a_missing_file_and_a_stranger_are_both_named(sealed: Path):
    (sealed / "deep/b.json").unlink()
    (sealed / "c").write_bytes(b"")
    with pytest.raises(SlipwayError, match=r"deep/b\.json is missing; c is not in SHA256SUMS"):
        sums.check(sealed)


def test_a_folder_without_a_seal_is_not_complete(tmp_path: Path):
    with pytest.raises(SlipwayError, match="is not complete"):
        sums.check(tmp_path)


def test_a_file_is_read_only_as_its_seal_has_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    sums.write(tmp_path)
    assert sums.read(tmp_path / "a.json") == b"{}"
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(SlipwayError, match=r"a\.json is damaged: it differs"):
        sums.read(tmp_path / "a.json")


def test_a_file_that_no_seal_lists_is_damage_and_one_without_a_seal_is_not(tmp_path: Path) -> None:
    (tmp_path / "late.json").write_text("{}")
    assert sums.read(tmp_path / "late.json") == b"{}"
    (tmp_path / "SHA256SUMS").write_text("")
    with pytest.raises(SlipwayError, match=r"late\.json is damaged"):
        sums.read(tmp_path / "late.json")
