"""A project is kept elsewhere and comes back; git, DVC, store, hosts and age are real."""

import base64
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.damage import build
from flows.backup import holdings
from flows.backup.archive import Archive
from flows.backup.create import BackupMade, Wanted, back_up
from flows.backup.drill import Drill, drill
from flows.backup.restore import MARK, Asked, Restoration, restore
from flows.backup.snapshot import BackupSnapshot
from flows.checkout.commands import git
from flows.custody.walk import look
from slipway.backups import DRILLS, newest
from slipway.errors import ConfigError, SlipwayError
from slipway.fleet.inventory import load_fleet
from slipway.host.follow.memory import Memory
from slipway.runs import record
from slipway.runs.run import Run
from slipway.store import ledger
from slipway.store.objects import Store
from tests.flow_project import PIPELINE, REPOSITORY
from tests.support.pace import limit
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,  # DVC looks at whole projects again and again
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]

NEGATE = "sys.stdout.buffer.write(bytes(255 - b for b in sys.stdin.buffer.read()))"
CIPHER = f"{sys.executable} -c 'import sys; {NEGATE}'"
"""Stands for a program that encrypts, and for the one that decrypts."""

NAME = "ein Projekt für Fluß 7"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("made") / NAME, free_ports(4))


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    """A project of the test's own, in a path with spaces and umlauts."""
    target = tmp_path / "hier drüben" / NAME
    shutil.copytree(built, target, symlinks=True)
    return target


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(str(tmp_path / "dort drüben"))


def keep(
    root: Path, archive: Archive, encrypt: str | None = CIPHER, without: bool = False
) -> BackupMade:
    return back_up(Wanted(root, archive, encrypt, without))


def bring(archive: Archive, into: Path, decrypt: str | None = CIPHER, **more: bool) -> Restoration:
    asked = Asked(archive, archive.snapshots()[-1], into, decrypt, into.parent, **more)
    return restore(asked, lambda text: None)


def rehearse(root: Path, archive: Archive) -> Drill:
    asked = Asked(archive, archive.snapshots()[-1], root, CIPHER, root)
    return drill(root, asked, datetime.now(UTC), lambda text: None)


def snapshot(archive: Archive) -> BackupSnapshot:
    return archive.snapshot(archive.snapshots()[-1])


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    code = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])
    return {**os.environ, "PATH": path, "PYTHONPATH": code, **more}


def slipway(folder: Path, *args: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "slipway.cli", *args]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=limit(120)
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def dvc(folder: Path, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *args], cwd=folder, env=environment(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


STATE = (".slipway/store", ".slipway/keys", ".slipway/fleets", ".slipway/runs", ".dvc/cache")


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    """Read what a backup is to bring back, with modes; what a machine makes itself is left out."""
    paths = [path for name in STATE for path in (root / name).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(root)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in paths
        if "hosts" not in path.parts or "applied" in path.parts
    }


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_lost_machine_comes_back_elsewhere_and_serves_what_it_served(
    root: Path, archive: Archive, tmp_path: Path
):
    git(root, "branch", "slipway/main")
    git(root, "tag", "v1")
    fleet = load_fleet(root, "local")
    memory = Memory(fleet.state / "a").load()[PIPELINE]
    served = json.loads(base64.b64decode(json.loads(memory.envelope)["payload"]))["stable"]
    before, refs = contents(root), git(root, "for-each-ref")
    keep(root, archive)
    shutil.rmtree(root.parent)

    back = tmp_path / "zurück gekehrt"
    bring(archive, back)
    assert contents(back) == before
    assert git(back, "for-each-ref") == refs
    assert git(back, "status", "--porcelain") == ""
    assert stat.S_IMODE((back / ".slipway/keys").stat().st_mode) == 0o700
    dvc(back, "checkout")
    assert look(back) == []
    told = json.loads(slipway(back, "explain", "--json").stdout)
    assert {stage["verdict"] for stage in told["stages"]} == {"up to date"}
    slipway(back, "fleet", "up", "local")
    try:
        status = json.loads(slipway(back, "status", "--json").stdout)
        assert [h["models"][PIPELINE]["stable"] for h in status["hosts"]] == [served, served]
    finally:
        slipway(back, "fleet", "down", "local")


def test_what_did_not_change_is_not_kept_twice(root: Path, archive: Archive):
    first = keep(root, archive)
    second = keep(root, archive)
    assert (first.new_objects > 50, second.new_objects) == (True, 0)
    (root / "inputs/evaluate.txt").write_text("another text")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "Change")
    third = keep(root, archive)
    assert third.new_objects == 1, "the repository"


def test_a_channel_of_a_store_that_was_made_anew_is_not_taken_for_the_old_one(
    root: Path, archive: Archive
):
    keep(root, archive)
    (path, *_) = (root / f".slipway/store/channels/local/{PIPELINE}").iterdir()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    keep(root, archive)
    named = str(path.relative_to(root))
    (kept,) = (file for file in snapshot(archive).files if file.path == named)
    assert archive.read(kept) == path.read_bytes()


def test_a_store_elsewhere_is_told_and_must_be_in_reach(root: Path, archive: Archive):
    config = root / "configs/fleets/local.yaml"
    text = config.read_text()
    config.write_text(text.replace(".slipway/store", "memory://elsewhere"))
    made = keep(root, archive)
    assert any("memory://elsewhere is elsewhere, and can be reached" in n for n in made.notes)
    assert not [file for file in snapshot(archive).files if file.kind == "store"]
    config.write_text(text.replace(".slipway/store", "nowhere://x"))
    with pytest.raises(SlipwayError, match="nowhere://x cannot be reached"):
        keep(root, archive)
    assert len(archive.snapshots()) == 1


def test_what_no_commit_has_is_told_and_not_kept(root: Path, archive: Archive, tmp_path: Path):
    (root / "notes.txt").write_text("mine")
    made = keep(root, archive)
    assert any("1 changed files (notes.txt)" in note for note in made.notes)
    bring(archive, tmp_path / "back")
    assert not (tmp_path / "back/notes.txt").exists()


def test_a_run_that_goes_on_is_left_out(root: Path, archive: Archive):
    entry = record.begin(root, Run(pipeline=PIPELINE))
    keep(root, archive)
    kept = {Path(file.path).parts[2] for file in snapshot(archive).files if file.kind == "run"}
    assert len(kept) == 2
    assert entry.run.run not in kept


def test_an_old_commit_s_data_comes_back_too(root: Path, archive: Archive, tmp_path: Path):
    text = (root / f"models/{PIPELINE}/weights/text.txt").read_text()
    old = git(root, "rev-parse", "HEAD")
    (root / "inputs/train.txt").write_text("another text")
    dvc(root, "repro")  # all of it: else an entry of a later stage names the old data still
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "Train")
    shutil.rmtree(root / ".dvc/cache/runs")
    keep(root, archive)
    bring(archive, tmp_path / "back")
    git(tmp_path / "back", "checkout", "-q", old)
    dvc(tmp_path / "back", "checkout", f"train@{PIPELINE}")
    assert (tmp_path / f"back/models/{PIPELINE}/weights/text.txt").read_text() == text


def test_a_bit_that_flipped_in_any_object_is_found_before_it_is_used(
    root: Path, archive: Archive, tmp_path: Path
):
    keep(root, archive)
    named = {piece.sha256: what for what, piece in snapshot(archive).pieces.items()}
    objects = sorted(Path(archive.url, "objects").iterdir())
    assert {path.name for path in objects} == set(named)
    for number, path in enumerate(path for path in objects if path.stat().st_size):
        whole, into = path.read_bytes(), tmp_path / f"back-{number}"
        flip(path)
        with pytest.raises(SlipwayError, match=r"damaged|gave no secrets") as refused:
            bring(archive, into)
        assert path.name in str(refused.value)
        assert not (into / ".git").exists(), "it is no project"
        path.write_bytes(whole)
    bring(archive, into)
    assert not (into / MARK).exists(), "what was mended lets the same restore go on"


def test_a_bit_that_flipped_in_the_snapshot_is_found(root: Path, archive: Archive, tmp_path: Path):
    keep(root, archive)
    flip(Path(archive.url, "snapshots", archive.snapshots()[0]))
    with pytest.raises(SlipwayError, match="is damaged"):
        bring(archive, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_an_object_that_is_missing_is_told_before_anything_is_written(
    root: Path, archive: Archive, tmp_path: Path
):
    keep(root, archive)
    file = snapshot(archive).files[-1]
    Path(archive.url, "objects", file.sha256).unlink()
    with pytest.raises(SlipwayError, match="nothing was restored") as refused:
        bring(archive, tmp_path / "back")
    assert file.path in str(refused.value)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (".dvc/cache/files/md5/*/*", "its MD5 is not its name"),
        (".slipway/store/bundles/*/*/model.onnx", "its SHA-256 is not the one"),
    ],
)
def test_what_is_damaged_here_is_refused_by_its_name(
    root: Path, archive: Archive, pattern: str, problem: str
):
    path = min(root.glob(pattern))
    flip(path)
    with pytest.raises(SlipwayError, match=problem) as refused:
        keep(root, archive)
    assert str(path.relative_to(root)) in str(refused.value)
    assert archive.snapshots() == []


KILL = """
import os, signal, sys
import flows.backup.archive as archive
import flows.backup.repository as repository

after, calls = int(sys.argv[1]), []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def counted(method):
    def call(*args):
        calls.append(1)
        if len(calls) > after:
            archive.copy = half
        return method(*args)
    return call

def half(source, target):
    target.write(source.read(7))
    target.flush()
    die()

def unfinished(bundle, top, **kept):
    repository.git(top, "init", "--quiet")
    (top / ".git/index.lock").touch()
    die()

archive.Archive.put = counted(archive.Archive.put)
archive.Archive.get = counted(archive.Archive.get)
if after < 0:
    after = 10 ** 9
    repository.unbundle = unfinished
from flows.commands import backup, restore
sys.exit({"backup": backup, "restore": restore}[sys.argv[2]].main(sys.argv[3:]))
"""


def killed(folder: Path, after: int, *args: str) -> None:
    """Run a command that is killed while it copies its object of that number; -1: by git."""
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(after), *args], cwd=folder, env=environment(),
        capture_output=True, text=True, timeout=limit(60),
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def test_a_backup_that_is_killed_leaves_no_snapshot_and_the_next_one_goes_on(
    root: Path, archive: Archive, tmp_path: Path
):
    for after in (0, 5, 30):
        killed(root, after, "backup", archive.url, "--encrypt", CIPHER)
        assert archive.snapshots() == []
    there = len([name for name in archive.sizes() if not name.startswith(".")])
    assert there >= 30
    made = keep(root, archive)
    assert made.new_objects < 61 - there + 5
    assert not list(Path(archive.url, "objects").glob(".*")), "no half object is left"
    bring(archive, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(root)


def test_a_restore_that_is_killed_is_no_project_and_goes_on(
    root: Path, archive: Archive, tmp_path: Path
):
    keep(root, archive)
    into = tmp_path / "back"
    for after in (1, 4, 40, -1):
        killed(tmp_path, after, "restore", archive.url, str(into), "--decrypt", CIPHER)
        assert (into / MARK).exists()
        assert not (into / "dvc.yaml").exists()
    fetched: list[str] = []
    get = archive.get
    archive.get = lambda piece, target: (fetched.append(piece.sha256), get(piece, target))[1]  # type: ignore[assignment, method-assign, return-value]
    bring(archive, into)
    assert len(fetched) == 2, "the secrets and the repository; every file was there"
    assert contents(into) == contents(root)
    assert not [path for path in into.rglob("*") if "restoring" in path.name]


def secret_words(root: Path) -> list[bytes]:
    """Return what no byte of a backup may show: lines of secrets, as they are and in base64."""
    held = holdings.look(root)
    assert {each.path for each in held.secrets} >= {
        ".slipway/keys/builder.key", ".slipway/keys/release.key", ".dvc/config.local",
        ".slipway/fleets/local/secret",
    }  # fmt: skip
    private = [e.where.read_bytes() for e in held.secrets if e.where.suffix != ".pub"]
    lines = [line for data in private for line in data.split(b"\n") if len(line) >= 16]
    lines = [line for line in lines if b"-----" not in line]
    assert len(lines) >= 6
    encoded = [base64.b64encode(data[at:])[4:40] for data in private for at in range(3)]
    return lines + encoded


def add_secrets(root: Path) -> None:
    (root / ".slipway/fleets/local/secret").write_text("slw_AbCdEfGhIjKlMnOpQrStUvWxYz012345\n")
    (root / ".dvc/config.local").write_text(
        "['remote \"away\"']\n    url = s3://bucket\n    secret_access_key = wJalrXUtnFEMIK7MDENG\n"
    )


def shown(words: list[bytes], folder: Path) -> list[bytes]:
    everything = b"\0".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return [word for word in words if word in everything]


def test_no_byte_of_a_backup_shows_a_secret(root: Path, archive: Archive, tmp_path: Path):
    if shutil.which("age") is None:
        pytest.skip("age is not installed: apt-get install age")
    add_secrets(root)
    identity = tmp_path / "identity.txt"
    subprocess.run(["age-keygen", "-o", identity], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", identity], check=True, capture_output=True)
    (root / "configs/backup-recipients.txt").write_bytes(public.stdout)
    words = secret_words(root)
    assert shown(words, root / ".slipway"), "or this test could not fail"
    slipway(root, "backup", archive.url, "--encrypt", "age -R configs/backup-recipients.txt")
    assert shown(words, Path(archive.url)) == []
    before = contents(root)
    decrypt = "age -d -i identity.txt"
    slipway(tmp_path, "restore", archive.url, "zurück", "--decrypt", decrypt)
    assert contents(tmp_path / "zurück") == before
    back = (tmp_path / "zurück/.dvc/config.local").read_bytes()
    assert back == (root / ".dvc/config.local").read_bytes()


def test_secrets_without_encryption_end_with_exit_code_2_and_nothing_written(
    root: Path, archive: Archive
):
    done = slipway(root, "backup", archive.url, code=2)
    assert "--without-secrets" in done.stderr
    assert not Path(archive.url).exists()


def test_what_a_command_did_not_encrypt_never_reaches_the_backup(root: Path, archive: Archive):
    with pytest.raises(SlipwayError, match="does not encrypt"):
        keep(root, archive, "cat")
    assert archive.sizes() == {}


def test_a_backup_without_secrets_restores_the_rest_and_its_drill_says_so(
    root: Path, archive: Archive, tmp_path: Path
):
    add_secrets(root)
    made = keep(root, archive, None, without=True)
    assert (made.secrets, "makes new keys" in " ".join(made.notes)) == (0, True)
    assert shown(secret_words(root), Path(archive.url)) == []
    bring(archive, tmp_path / "back", None)
    assert not (tmp_path / "back/.slipway/keys").exists() or not list(
        (tmp_path / "back/.slipway/keys").iterdir()
    )
    assert rehearse(root, archive).missing == ("the secrets: the snapshot was made without them",)


def test_a_wrong_key_changes_nothing(root: Path, archive: Archive, tmp_path: Path):
    keep(root, archive)
    for command in ("false", "cat"):
        with pytest.raises(SlipwayError):
            bring(archive, tmp_path / "back", command)
        assert not (tmp_path / "back").exists()


def test_a_folder_that_is_not_empty_is_left_as_it_is(root: Path, archive: Archive):
    keep(root, archive)
    before = contents(root)
    with pytest.raises(ConfigError, match="is not empty"):
        bring(archive, root)
    assert contents(root) == before


def test_a_cache_that_was_elsewhere_comes_back_inside_of_the_project(
    root: Path, archive: Archive, tmp_path: Path
):
    shutil.move(root / ".dvc/cache", tmp_path / "shared cache")
    dvc(root, "cache", "dir", "--local", str(tmp_path / "shared cache"))
    keep(root, archive)
    shutil.rmtree(tmp_path / "shared cache")
    bring(archive, tmp_path / "back")
    dvc(tmp_path / "back", "checkout")
    assert look(tmp_path / "back") == []


def test_a_project_below_the_top_of_its_repository_comes_back_there(
    archive: Archive, tmp_path: Path
):
    top = tmp_path / "all of it"
    project = top / "deep/project"
    (project / "configs/fleets").mkdir(parents=True)
    (project / "dvc.yaml").write_text("stages: {}\n")
    (project / ".gitignore").write_text(".slipway\n")
    (top / "beside.txt").write_text("beside")
    git(top, "init", "-q", "-b", "main")
    dvc(project, "init", "-q", "--subdir")
    git(top, "add", ".")
    git(top, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "All")
    record.begin(project, Run(pipeline="p")).close("completed")
    keep(project, archive)
    done = bring(archive, tmp_path / "back")
    assert done.project == tmp_path / "back/deep/project"
    assert (tmp_path / "back/beside.txt").read_text() == "beside"
    assert len(list((done.project / ".slipway/runs").glob("2*/run.json"))) == 1


def test_a_drill_measures_and_finds_nothing_missing(root: Path, archive: Archive):
    (root / "configs/backup.yaml").write_text(
        f"format: 1\nto: {archive.url}\nencrypt: {CIPHER}\ndecrypt: {CIPHER}\n"
    )
    slipway(root, "backup")
    temporary = root.parent / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "slipway.cli", "restore", archive.url, "--drill", "--json"]
    done = subprocess.run(
        command, cwd=root, env=environment(TMPDIR=str(temporary)), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["missing"] == []
    assert told["released_since"] == []
    assert 0 < told["rto_s"] < limit(60)
    assert 0 < told["rpo_s"] < limit(120)
    assert list(temporary.iterdir()) == [], "the copy is removed"
    kept = newest(root, DRILLS)
    assert kept is not None
    assert kept.snapshot == told["snapshot"]


def test_a_drill_says_what_was_released_since(root: Path, archive: Archive):
    keep(root, archive)
    store = Store(load_fleet(root, "local").store)
    at = datetime.now(UTC).isoformat()
    entry = {"at": at, "decision": "promoted", "version": "a" * 64, "reason": "it was better"}
    ledger.append(store, "local", PIPELINE, entry)
    found = rehearse(root, archive)
    assert [each.version for each in found.since] == ["a" * 64]
    assert any("RPO" in line and "vaaaaaaaaaaaa" in line for line in found.lines())


def lose_cache(root: Path) -> None:
    shutil.rmtree(root / ".dvc/cache")


def lose_bundle(root: Path) -> None:
    for path in (root / ".slipway/store/bundles").glob("*/*"):
        shutil.rmtree(path)


def lose_trust(root: Path) -> None:
    shutil.rmtree(root / ".slipway/fleets/local/trusted_keys/release")


@pytest.mark.parametrize(
    ("lose", "told"),
    [
        (lose_cache, "would run again"),
        (lose_bundle, "the channel of local names it"),
        (lose_trust, "release key"),
    ],
)
def test_a_drill_ends_with_1_and_the_name_of_what_a_machine_had_lost_before(
    root: Path, archive: Archive, lose: Callable[[Path], None], told: str
):
    lose(root)
    keep(root, archive)
    decrypt = ("--decrypt", CIPHER)
    done = slipway(root, "restore", archive.url, "--drill", *decrypt, code=1)
    assert "MISSING" in done.stdout
    assert told in done.stdout
    assert newest(root, DRILLS) is None, "one that found something missing does not count"


def test_a_snapshot_never_names_what_is_not_in_it_while_releases_go_on(root: Path):
    fleet = load_fleet(root, "local")
    done, writer = threading.Event(), Releases(fleet.state, Path(fleet.store))
    thread = threading.Thread(target=writer.run, args=(done,))
    thread.start()
    looks = 0

    def looked_often() -> bool:
        nonlocal looks
        looks += 1
        check_whole(holdings.look(root).files)
        return looks >= 15 and writer.serial > 15

    try:
        wait_until(looked_often, "many looks, and many releases meanwhile", 60)
    finally:
        done.set()
        thread.join()


PAUSE_S = 0.02
"""Between two releases: a listing has to come to its end."""


class Releases:
    """Writes as releases do, as fast as it can: what is named is there before its name."""

    def __init__(self, hosts: Path, store: Path) -> None:
        self.hosts, self.store, self.serial = hosts, store, 0

    def run(self, done: threading.Event) -> None:
        while not done.wait(PAUSE_S):
            self.serial += 1
            version = f"{self.serial:064x}"
            bundle = self.store / "bundles/new" / version
            bundle.mkdir(parents=True)
            for name in ("model.onnx", "bundle.sig", "manifest.json"):
                (bundle / name).touch()
            for path in (
                self.store / f"channels/local/new/{self.serial:012d}.json",
                self.store / f"ledger/local/new/{self.serial:020d}-0000000000000000.json",
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            aside = self.hosts / "a/applied/.new.json"
            aside.write_text(str(self.serial))
            aside.replace(aside.with_name("new.json"))


def check_whole(files: list[holdings.FoundFile]) -> None:
    paths = {each.path for each in files}
    applied = [int(each.data or b"0") for each in files if each.path.endswith("applied/new.json")]

    def serials(part: str) -> set[int]:
        found = (Path(path) for path in paths if f"/{part}/" in path and "/new" in path)
        return {int(path.stem.partition("-")[0]) for path in found}

    bundles = {int(Path(p).parent.name, 16) for p in paths if "/bundles/new/" in p}
    channels = serials("channels")
    assert set(applied) <= channels
    assert serials("ledger") <= channels
    assert channels <= bundles
    for serial in bundles:
        files = {Path(p).name for p in paths if f"/bundles/new/{serial:064x}/" in p}
        assert files == {"model.onnx", "bundle.sig", "manifest.json"}


@pytest.fixture
def shallow(root: Path, tmp_path: Path) -> Path:
    git(
        root, "-c", "user.name=t", "-c", "user.email=t@e.org", "commit", "-qm", "2", "--allow-empty"
    )
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{root}", str(tmp_path / "shallow"))
    return tmp_path / "shallow"


def test_a_shallow_clone_is_no_whole_copy_and_is_refused(shallow: Path, archive: Archive):
    with pytest.raises(ConfigError, match="git fetch --unshallow"):
        keep(shallow, archive)


def test_other_settings_of_a_restore_are_kept_apart(root: Path, archive: Archive, tmp_path: Path):
    keep(root, archive)
    name = archive.snapshots()[0]
    asked = Asked(archive, name, tmp_path / "back", None, tmp_path)
    with pytest.raises(ConfigError, match="4 secret files"):
        restore(asked, lambda text: None)
    assert not (tmp_path / "back").exists()
    restore(replace(asked, without_secrets=True), lambda text: None)
    assert look(tmp_path / "back") == []
