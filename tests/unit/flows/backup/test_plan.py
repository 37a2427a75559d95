from dataclasses import replace
from pathlib import Path

import pytest

from flows.backup import plan
from flows.backup.holdings import FoundFile
from flows.backup.snapshot import Kind, Piece
from slipway.errors import ConfigError
from tests.snapshots import make_file, make_snapshot, sha256

OLD = make_file(".dvc/cache/files/md5/aa/b", b"old")
SIZES = {OLD.sha256: 3}


def found(path: str, kind: Kind = "cache") -> FoundFile:
    return FoundFile(path, Path("/", path), kind)


def read(*files: FoundFile, sizes=SIZES, size: int = 3) -> list[str]:
    size_of = {each.path: size for each in files}
    reading = plan.what_to_read(files, make_snapshot(OLD), sizes, size_of)
    assert reading.known.keys() == {f.path for f in files} - {f.path for f in reading.unread}
    return [each.path for each in reading.unread]


def test_what_is_named_by_its_content_is_not_read_again():
    assert read(found(OLD.path)) == []


@pytest.mark.parametrize("kind", ["store", "host", "key", "run"])
def test_what_is_not_is_read_again_though_it_has_the_size_it_had(kind):
    assert read(found(OLD.path, kind)) == [OLD.path]


def test_what_is_new_is_read():
    assert read(found(OLD.path), found("new")) == ["new"]


def test_what_has_another_size_now_is_read_again():
    assert read(found(OLD.path), size=4) == [OLD.path]


@pytest.mark.parametrize("sizes", [{}, {OLD.sha256: 2}], ids=["gone", "cut off"])
def test_what_the_backup_lost_is_read_again(sizes):
    assert read(found(OLD.path), sizes=sizes) == [OLD.path]


def test_without_a_snapshot_before_everything_is_read():
    files = (found("a"), found("b"))
    assert plan.what_to_read(files, None, SIZES, {}).unread == files


def test_only_what_the_backup_lacks_is_copied_and_once_for_all_its_names():
    same, again, other = (make_file(name, data) for name, data in
                          (("a", b"1"), ("b", b"1"), ("c", b"2")))  # fmt: skip
    pieces: dict[str, Piece] = {each.path: each for each in (same, again, other, OLD)}
    assert list(plan.what_to_copy(pieces, SIZES)) == ["a", "c"]


def test_what_was_cut_off_in_the_backup_is_copied_again():
    assert list(plan.what_to_copy({"a": OLD}, {OLD.sha256: 2})) == ["a"]


def test_secrets_without_a_command_are_refused_with_what_to_type():
    with pytest.raises(ConfigError) as refused:
        plan.require_encryption(4, None, without=False)
    assert refused.value.exit_code == 2
    for told in ("4 secret files", '--encrypt "age -R', "--without-secrets", "makes new keys"):
        assert told in str(refused.value)


@pytest.mark.parametrize(
    ("secrets", "encrypt", "without"), [(0, None, False), (4, "age", False), (4, None, True)]
)
def test_no_secrets_or_a_command_or_a_word_of_it_will_do(secrets, encrypt, without):
    plan.require_encryption(secrets, encrypt, without=without)


def test_what_no_commit_has_is_named():
    (told,) = plan.notes(("dvc.lock", "a.py"), 2, 0)
    assert "not kept: 2 changed files (dvc.lock, a.py)" in told
    (told,) = plan.notes(tuple("abcdef"), 60, 0)
    assert "60 changed files (a, b, c, d, e, ...)" in told


def test_outputs_that_the_cache_lacks_are_told():
    assert "lacks 3 outputs" in plan.notes((), 0, 3)[0]


def test_files_and_bytes_are_counted_by_kind():
    files = [found("a"), found("b"), replace(found("c"), kind="run")]
    assert plan.summary(files, {"a": 1, "b": 2, "c": 5}) == {"cache": (2, 3), "run": (1, 5)}


def test_the_digest_of_nothing_is_no_special_case():
    empty = make_file("empty", b"")
    assert plan.is_there(empty, {sha256(b""): 0})
