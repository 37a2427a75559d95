import pytest
from pydantic import ValidationError

from flows.backup.snapshot import BackupSnapshot, KeptFile, decode, encode, inside
from slipway.errors import SlipwayError
from tests.snapshots import make_file, make_snapshot


def test_a_snapshot_reads_back_as_it_was_written():
    snapshot = make_snapshot(make_file("models/a"))
    assert decode(*encode(snapshot)) == snapshot


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2026-11-30T23:30:00+00:00", "2026-12-01T00:45:00+01:00"),
        ("2026-11-30T23:30:00.042+00:00", "2026-11-30T23:30:00.100+00:00"),
        ("2026-11-30T23:30:00.042+00:00", "2026-11-30T23:30:00.043+00:00"),
    ],
)
def test_names_sort_by_time_whatever_the_zone_and_within_a_second(first: str, second: str):
    earlier, later = make_snapshot(at=first), make_snapshot(at=second)
    assert encode(earlier)[0] < encode(later)[0]


@pytest.mark.parametrize("at", range(0, 300, 7))
def test_a_bit_that_flipped_anywhere_in_it_is_noticed(at: int):
    name, data = encode(make_snapshot(make_file("models/a")))
    flipped = bytearray(data)
    flipped[at % len(data)] ^= 1
    with pytest.raises(SlipwayError, match="is damaged"):
        decode(name, bytes(flipped))


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../../b", ".git/hooks/x", "", "a\0b"])
def test_a_path_that_leads_out_of_the_project_is_refused(path: str):
    with pytest.raises(ValueError, match="leads out of the project"):
        inside(path)
    with pytest.raises(ValidationError):
        KeptFile(path=path, kind="store", mode=0o644, sha256="0" * 64, size_bytes=0)
    with pytest.raises(ValidationError):
        BackupSnapshot.model_validate(make_snapshot().model_dump() | {"folders": {path: 0o755}})


def test_a_file_of_the_project_is_not():
    assert inside(".slipway/store/bundles/a..b") == ".slipway/store/bundles/a..b"
