import errno
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipway.errors import AlreadyExists, SlipwayError
from slipway.store import places
from slipway.store.objects import Store


@pytest.fixture(params=["path", "file", "memory"])
def store(request, tmp_path) -> Store:
    urls = {
        "path": str(tmp_path / "store"),
        "file": f"file://{tmp_path}/store/",
        "memory": f"memory://{uuid.uuid4().hex}",
    }
    return Store(urls[request.param])


@pytest.fixture
def local(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def fail_with(number: int):
    def write_durably(*args: object, **kwargs: object) -> None:
        raise OSError(number, "injected")

    return write_durably


def test_an_object_reads_back_as_it_was_created(store):
    assert not store.exists("a/b/c.json")
    store.create("a/b/c.json", b"1")
    assert store.exists("a/b/c.json")
    assert store.read("a/b/c.json") == b"1"


def test_what_was_created_stays(store):
    store.create("a/b", b"first")
    with pytest.raises(AlreadyExists, match="a/b exists already"):
        store.create("a/b", b"second")
    assert store.read("a/b") == b"first"


def test_an_object_is_replaced_whether_it_was_there_or_not(store):
    store.replace("a/b", b"1")
    store.replace("a/b", b"22")
    assert store.read("a/b") == b"22"


def test_an_object_that_is_not_there_is_not_found(store):
    for absent in ("a", "a/b/c"):
        with pytest.raises(FileNotFoundError):
            store.read(absent)


def test_a_folder_is_no_object(store):
    store.create("a/b", b"")
    assert not store.exists("a")


def test_names_are_those_of_direct_children_in_order(store):
    for path in ("a/2", "a/1", "a/d/x", "b/3"):
        store.create(path, b"")
    assert store.names("a") == ["1", "2", "d"]
    assert store.names("a/d") == ["x"]
    assert store.names("nothing") == store.names("nothing/at/all") == []


def test_a_second_program_sees_what_the_first_has_written(store):
    other = Store(store.url)
    assert other.names("a") == []
    store.create("a/1", b"1")
    assert other.names("a") == ["1"]
    store.create("a/2", b"2")
    assert other.names("a") == ["1", "2"]


def test_an_object_larger_than_the_limit_is_not_read(store):
    store.create("a", b"12345")
    assert store.read("a", limit=5) == b"12345"
    with pytest.raises(SlipwayError, match="larger than 4 bytes"):
        store.read("a", limit=4)


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/../../b", ".a", "a/.part", "a\\b"])
def test_no_path_leads_out_of_the_store(store, path):
    for use in (store.read, store.exists, store.names, lambda p: store.create(p, b"")):
        with pytest.raises(SlipwayError, match="is no path of an object"):
            use(path)


def test_one_of_many_that_create_at_once_wins_and_readers_see_whole_objects(local):
    start, outcomes = threading.Barrier(8), []

    def create(number: int) -> None:
        start.wait()
        try:
            local.create("a/b", bytes([number]) * 100_000)
            outcomes.append(number)
        except AlreadyExists:
            assert len(set(local.read("a/b"))) == 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(8)))
    assert len(outcomes) == 1
    assert local.read("a/b") == bytes(outcomes) * 100_000


def test_a_reader_never_sees_a_torn_replacement(local):
    wholes = [bytes([number]) * 2_000_000 for number in range(10)]  # so large that it takes a while
    local.replace("a", wholes[0])
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            local.replace("a", wholes[number % 10])
        done.set()

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        while not done.is_set() and not written.done():
            data = local.read("a")
            assert data
            assert data == wholes[data[0]]
        written.result()


def test_nothing_is_left_beside_an_object(local, tmp_path):
    local.create("a/b", b"1")
    local.replace("a/b", b"2")
    with pytest.raises(AlreadyExists):
        local.create("a/b", b"3")
    assert [path.name for path in (tmp_path / "store" / "a").iterdir()] == ["b"]


def test_a_half_written_object_is_not_listed(local, tmp_path):
    local.create("a/b", b"1")
    (tmp_path / "store" / "a" / ".c.12345678.part").write_bytes(b"half")
    assert local.names("a") == ["b"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_with_what_to_do(local, monkeypatch, number):
    monkeypatch.setattr(places, "write_durably", fail_with(number))
    for write in (local.create, local.replace):
        with pytest.raises(SlipwayError, match=r"no space left .* nothing was published"):
            write("a/b", b"1")


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES])
def test_another_failure_is_said_with_its_reason(local, monkeypatch, number):
    monkeypatch.setattr(places, "write_durably", fail_with(number))
    with pytest.raises(SlipwayError, match=f"store {local.url}: cannot write a/b: injected"):
        local.create("a/b", b"1")


def test_an_unreadable_store_is_said(local, tmp_path):
    (tmp_path / "store").write_text("a file where a folder should be")
    with pytest.raises(SlipwayError, match="cannot read a/b"):
        local.read("a/b")
    assert not local.exists("a/b")


def test_a_store_may_be_named_by_a_relative_path(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Store("here/store").create("a", b"1")
    assert (tmp_path / "here" / "store" / "a").read_bytes() == b"1"


def test_a_removed_object_is_gone_and_may_be_removed_again(store):
    store.create("a/b.json", b"12")
    assert store.size("a/b.json") == 2
    store.remove("a/b.json")
    store.remove("a/b.json")
    assert not store.exists("a/b.json")


def test_a_store_tells_when_an_object_was_written(store):
    before = datetime.now(UTC) - timedelta(seconds=5)
    store.create("a/b.json", b"12")
    assert before < store.modified("a/b.json") < datetime.now(UTC) + timedelta(seconds=5)
