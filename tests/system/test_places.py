"""Stores in real places: a folder, an SSH server, an S3 server."""

import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.damage import build
from flows.backup.archive import Archive
from flows.backup.create import Wanted, back_up
from flows.backup.drill import drill
from flows.backup.restore import Asked, restore
from slipway.errors import AlreadyExists, SlipwayError, Unavailable
from slipway.store.objects import Store
from tasks import sums
from tasks.checkpoints import Checkpoints
from tests.ceph import Ceph
from tests.hosts import HostProcess, Site, answers
from tests.project import REPOSITORY
from tests.sshd import Sshd
from tests.support.ports import free_ports
from tests.unit.tasks.test_checkpoints import DIGEST, break_off

pytestmark = [
    pytest.mark.slow,  # servers, and programs that race
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),  # DVC's
]


@dataclass(frozen=True)
class There:
    """A server that is there, and how it is taken away and brought back."""

    url: str
    cut: Callable[[], None]
    mend: Callable[[], None]


@pytest.fixture(params=["ssh", "s3"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> There:
    """A server with room for a store, and this process as one of its clients."""
    if request.param == "ssh":
        sshd: Sshd = request.getfixturevalue("sshd")
        found = There(f"{sshd.url}/{secrets.token_hex(4)}", sshd.cut, sshd.start)
        environment = sshd.environment
    else:
        ceph: Ceph = request.getfixturevalue("ceph")
        bucket = f"store-{secrets.token_hex(4)}"
        ceph.bucket(bucket)
        found = There(f"s3://{bucket}/slipway", ceph.stop_gateway, ceph.start_gateway)
        environment = ceph.environment
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture(params=["folder", "server"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "folder":
        return str(request.getfixturevalue("tmp_path") / "store")
    there: There = request.getfixturevalue("server")
    return there.url


RACER = """
import sys
from benchmarks.damage import build
from flows.backup.archive import Archive
from flows.backup.create import Wanted, back_up
from flows.backup.drill import drill
from flows.backup.restore import Asked, restore
from slipway.errors import AlreadyExists
from slipway.store.objects import Store
store = Store(sys.argv[1])
store.names("a")  # connected
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    try:
        store.create(f"a/{number}", sys.argv[2].encode() * 50_000)
        print(number, flush=True)
    except AlreadyExists:
        assert len(set(store.read(f"a/{number}"))) == 1
"""


def test_of_many_programs_that_create_the_same_objects_one_wins_each(server: There):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, server.url, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        )
        for name in "ABCD"
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = {name: racer.communicate()[0] for name, racer in zip("ABCD", racers, strict=True)}
    assert all(racer.returncode == 0 for racer in racers)
    won = {name: [int(word) for word in words.split()] for name, words in said.items()}
    assert sorted(each for numbers in won.values() for each in numbers) == list(range(20))
    store = Store(server.url)
    for name, numbers in won.items():
        for number in numbers:
            assert store.read(f"a/{number}") == name.encode() * 50_000
    assert store.names("a") == sorted(str(number) for number in range(20))


def test_a_reader_never_sees_a_torn_replacement(server: There):
    writer, reader = Store(server.url), Store(server.url)
    wholes = [bytes([number]) * 3_000_000 for number in range(5)]
    writer.replace("a/b", wholes[0])
    done = threading.Event()

    def write() -> None:
        for number in range(20):
            writer.replace("a/b", wholes[number % 5])
        done.set()

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        while not done.is_set() and not written.done():
            data = reader.read("a/b")
            assert data == wholes[data[0]]
        written.result()


def test_an_object_larger_than_a_driver_sends_at_once_is_created_once(server: There):
    store = Store(server.url)
    first = secrets.token_bytes(1 << 20) * 120
    store.create("bundles/b", first)
    with pytest.raises(AlreadyExists):
        store.create("bundles/b", b"x" * len(first))
    assert store.size("bundles/b") == len(first)
    assert store.read("bundles/b") == first


def test_what_a_folder_can_a_server_can(server: There):
    store = Store(server.url)
    assert store.names("a") == []
    assert not store.exists("a/b")
    for ask in (store.read, store.size):
        with pytest.raises(FileNotFoundError):
            ask("a/b")
    store.remove("a/b")
    store.create("a/b", b"1")
    assert Store(server.url).names("a") == ["b"]
    store.create("a/c", b"2")
    assert Store(server.url).names("a") == store.names("a") == ["b", "c"]
    assert store.exists("a/c")
    assert not store.exists("a")
    at = store.modified("a/b")
    assert at is not None
    store.replace("a/b", b"12345")
    with pytest.raises(SlipwayError, match="larger than 4 bytes"):
        store.read("a/b", limit=4)
    store.remove("a/b")
    assert store.names("a") == ["c"]


def test_a_server_that_goes_away_is_said_and_found_again(server: There):
    store = Store(server.url)
    store.create("a/b", b"1")
    server.cut()
    try:
        for ask in (
            lambda: store.read("a/b"),
            lambda: store.create("a/c", b"2"),
            lambda: Store(server.url).names("a"),
        ):
            with pytest.raises(Unavailable, match=r"store .*: cannot (read|write|list) a"):
                ask()
    finally:
        server.mend()
    assert store.read("a/b") == b"1"
    store.create("a/c", b"2")
    assert store.names("a") == ["b", "c"]


def test_a_server_that_shows_another_key_is_not_believed(sshd: Sshd, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(sshd.home))
    known = sshd.home / ".ssh/known_hosts"
    before = known.read_text()
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    try:
        sshd.trust(other.with_suffix(".pub").read_text())
        with pytest.raises(SlipwayError, match=r"[Hh]ost key") as refused:
            Store(sshd.url).names("a")
        assert not isinstance(refused.value, Unavailable), "to ask again would not help"
        known.unlink()
        with pytest.raises(SlipwayError, match=r"[Hh]ost key"):
            Store(sshd.url).names("a")
    finally:
        known.write_text(before)
    assert Store(sshd.url).names("a") == []


def test_keys_that_a_server_does_not_know_are_refused(ceph: Ceph, monkeypatch):
    ceph.bucket("closed")
    for name, value in {**ceph.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SlipwayError, match="cannot list a: ") as refused:
        Store("s3://closed/store").names("a")
    assert not isinstance(refused.value, Unavailable)


def probability(host: HostProcess) -> float:
    found: float = host.infer().json["outputs"][0]["data"][0]
    return found


def test_a_host_follows_a_store_on_a_server_through_its_absence(server: There, tmp_path: Path):
    site = Site(tmp_path)
    site.store = Store(server.url)
    old, new = site.publish(0.0), site.publish(1.0)
    site.point(old)
    host = HostProcess(site, store=server.url, poll_s=0.2).start()
    try:
        host.wait_for(stable=old)
        server.cut()
        try:
            host.wait(lambda: "cannot" in host.log.read_text(), "the host says so")
            assert probability(host) == pytest.approx(answers(0.0))
            assert host.status()[site.model]["stable"] == old
        finally:
            server.mend()
        site.point(new)
        host.wait_for(stable=new)
        assert probability(host) == pytest.approx(answers(1.0))
    finally:
        host.stop()


def test_a_backup_on_a_server_comes_back_as_it_was(server: There, tmp_path: Path):
    root = build(tmp_path / "made", free_ports(4))
    archive = Archive(server.url)
    assert archive.snapshots() == []
    made = back_up(Wanted(root, archive, None, True))
    again = back_up(Wanted(root, archive, None, True))
    assert made.new_objects > 10
    assert again.new_objects <= 1, "git's bundle at most"
    asked = Asked(archive, archive.snapshots()[-1], tmp_path / "back", None, tmp_path)
    restore(asked, lambda text: None)
    for name in (".slipway/store", ".dvc/cache"):
        same = ["diff", "-r", str(root / name), str(tmp_path / "back" / name)]
        assert subprocess.run(same, capture_output=True).stdout == b""
    rehearsed = drill(root, replace(asked, into=root), datetime.now(UTC), lambda text: None)
    assert all("secret" in what or "key" in what for what in rehearsed.missing)
    server.cut()
    try:
        with pytest.raises(SlipwayError, match=r"^backup "):
            back_up(Wanted(root, Archive(server.url), None, True))
    finally:
        server.mend()


def test_checkpoints_on_a_server_are_found_by_another_machine(server: There, tmp_path: Path):
    said: list[str] = []
    url = f"{server.url}/checkpoints"
    for step in (10, 20, 30):
        break_off(Checkpoints(tmp_path / "a", url, 0.0, said.append), step)
    with Checkpoints(tmp_path / "b", url, 0.0, said.append).kept(DIGEST) as folder:
        assert [path.name for path in folder.iterdir()] == ["step-00000030"]
        sums.check(folder / "step-00000030")
    assert len(said) == 1
    assert "step-00000030 fetched" in said[0]
    with Checkpoints(tmp_path / "c", url, 0.0, said.append).kept(DIGEST) as folder:
        assert list(folder.iterdir()) == []
