"""The audit log holds what was done before anybody hears that it was, and shows tampering."""

import json
import os
import resource
import signal
import stat
import threading
from pathlib import Path

import pytest

from slipway.errors import SlipwayError
from slipway.host.observe.audit import FIRST, Audit, verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def write(path: Path, *events: str) -> Audit:
    audit = Audit(path)
    for event in events:
        audit.record(event, caller="ann", model="m")
    return audit


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_each_line_carries_the_digest_of_the_one_before(path: Path) -> None:
    audit = write(path, "load", "unload")
    first, second = records(path)
    assert (first["event"], first["caller"], first["previous"]) == ("load", "ann", FIRST)
    assert second["previous"] != FIRST
    assert verify(path) is None
    assert audit.head != second["previous"]


def test_a_line_is_on_the_disk_when_record_returns(path: Path) -> None:
    synced: list[int] = []
    real = os.fsync
    audit = write(path)
    try:
        os.fsync = lambda file: synced.append(path.stat().st_size) or real(file)  # type: ignore[func-returns-value]
        audit.record("load")
    finally:
        os.fsync = real
    assert synced == [path.stat().st_size]


def test_a_new_run_goes_on_with_the_chain(path: Path) -> None:
    write(path, "load").close()
    write(path, "unload").close()
    assert [record["event"] for record in records(path)] == ["load", "unload"]
    assert verify(path) is None


@pytest.mark.parametrize("line", [0, 1, 2])
def test_an_edited_line_shows_at_the_next(path: Path, line: int) -> None:
    write(path, "one", "two", "three", "four").close()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b"ann", b"bob")
    path.write_bytes(b"".join(lines))
    assert verify(path) == line + 2


@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_removed_line_shows(path: Path, line: int) -> None:
    write(path, "one", "two", "three", "four").close()
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[line]
    path.write_bytes(b"".join(lines))
    assert verify(path) == line + 1


def test_an_inserted_line_shows(path: Path) -> None:
    write(path, "one", "two").close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[0] + lines[1])
    assert verify(path) == 2


def test_garbage_shows_even_as_the_last_line(path: Path) -> None:
    write(path, "one").close()
    with path.open("ab") as file:
        file.write(b"garbage\n")
    assert verify(path) == 2


def test_garbage_shows_even_if_the_next_line_carries_its_digest(path: Path) -> None:
    write(path, "one").close()
    with path.open("ab") as file:
        file.write(b"garbage\n")
    write(path, "two").close()
    assert verify(path) == 2


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_line_that_a_crash_cut_short_is_kept_and_marked(path: Path, cut: int) -> None:
    write(path, "one", "two").close()
    os.truncate(path, path.stat().st_size - cut)
    assert verify(path) == 2
    write(path, "three").close()
    assert verify(path) is None
    lines = path.read_bytes().splitlines()
    assert [json.loads(line)["event"] for line in (lines[0], *lines[2:])] == [
        "one",
        "torn",
        "three",
    ]


def test_a_torn_line_cannot_hide_one_that_was_edited(path: Path) -> None:
    write(path, "one", "two").close()
    os.truncate(path, path.stat().st_size - 5)
    write(path, "three").close()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b'{"cut differently\n'
    path.write_bytes(b"".join(lines))
    assert verify(path) == 3


def test_a_full_disk_refuses_the_call_and_leaves_no_half_line(path: Path) -> None:
    audit = write(path, "one")
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
        with pytest.raises(SlipwayError, match="audit log cannot be written"):
            audit.record("two")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.stat().st_size == size
    audit.record("three")
    assert [record["event"] for record in records(path)] == ["one", "three"]
    assert verify(path) is None


def test_only_this_user_can_read_it_and_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    path.touch(mode=0o644)
    write(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(SlipwayError, match="audit log"):
        Audit(link)


def test_what_a_caller_sends_cannot_forge_a_line(path: Path) -> None:
    audit = write(path)
    audit.record("load", model='m"}\n{"event":"forged"}\x1b[0m')
    assert path.read_bytes().count(b"\n") == 1
    assert verify(path) is None


def test_threads_that_record_at_once_make_one_chain(path: Path) -> None:
    audit = write(path)
    threads = [threading.Thread(target=audit.record, args=(f"e{i}",)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records(path)) == 20
    assert verify(path) is None
