import pytest

from flows.backup.archive import Archive
from flows.backup.restore import (
    MARK,
    Asked,
    choose,
    refuse_a_used_folder,
    require_objects,
    require_secrets,
)
from flows.backup.snapshot import Secrets, encode
from slipway.errors import ConfigError, SlipwayError
from tests.snapshots import make_file, make_snapshot, sha256

NAMES = [
    "20261129T120000000Z-aaaa000000000000.json",
    "20261130T120000000Z-bbbb000000000000.json",
    "20261130T130000000Z-cccc000000000000.json",
]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [(None, 2), ("20261129", 0), ("20261130T12", 1), ("bbbb", 1), (NAMES[1][:-5], 1)],
)
def test_a_snapshot_is_found_by_the_beginning_of_its_time_or_digest(wanted, chosen):
    assert choose(NAMES, wanted) == NAMES[chosen]


@pytest.mark.parametrize(
    ("wanted", "told"), [("2027", "no snapshot is"), ("20261130", "2 snapshots are")]
)
def test_one_that_is_not_there_or_not_alone_is_refused_with_what_there_is(wanted, told):
    with pytest.raises(ConfigError, match=told) as refused:
        choose(NAMES, wanted)
    assert NAMES[2][:-5] in str(refused.value)


def test_an_empty_backup_says_how_to_make_one():
    with pytest.raises(SlipwayError, match="slipway backup URL makes one"):
        choose([], None)


def test_a_folder_that_is_empty_or_not_there_is_taken(tmp_path):
    refuse_a_used_folder(tmp_path, NAMES[0])
    refuse_a_used_folder(tmp_path / "new", NAMES[0])


def test_a_folder_with_anything_in_it_is_refused(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        refuse_a_used_folder(tmp_path, NAMES[0])


def test_a_restore_that_was_cut_off_goes_on_with_its_own_snapshot_only(tmp_path):
    (tmp_path / MARK).write_text(f"{NAMES[0]}\n")
    (tmp_path / "part").touch()
    refuse_a_used_folder(tmp_path, NAMES[0])
    with pytest.raises(ConfigError, match=f"--snapshot {NAMES[0][:-5]}"):
        refuse_a_used_folder(tmp_path, NAMES[1])


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is no folder"):
        refuse_a_used_folder(tmp_path / "file", NAMES[0])


def asked(tmp_path, **more) -> Asked:
    return Asked(Archive(str(tmp_path)), NAMES[0], tmp_path, None, tmp_path, **more)


def test_secrets_that_nothing_reads_are_refused_unless_they_are_left_out(tmp_path):
    secrets = Secrets(sha256=sha256(b"s"), size_bytes=1, files=4)
    snapshot = make_snapshot(secrets=secrets)
    with pytest.raises(ConfigError, match="--decrypt"):
        require_secrets(snapshot, asked(tmp_path))
    require_secrets(snapshot, asked(tmp_path, without_secrets=True))
    require_secrets(make_snapshot(), asked(tmp_path))


@pytest.mark.parametrize(
    ("size", "told"),
    [(None, "models/a: objects/[0-9a-f]{64} is missing"), (3, "cut off at 3 bytes")],
)
def test_every_object_that_is_not_whole_is_named_with_what_it_belongs_to(size, told):
    file = make_file("models/a")
    sizes = {sha256(b"git"): 3} | ({file.sha256: size} if size else {})
    snapshot = make_snapshot(file)
    with pytest.raises(SlipwayError, match=told):
        require_objects(snapshot, sizes, encode(snapshot)[0])


def test_a_backup_with_every_object_whole_is_taken():
    file = make_file("models/a")
    require_objects(make_snapshot(file), {file.sha256: 4, sha256(b"git"): 3}, NAMES[0])
