"""What nothing needs goes, and nothing else; git, DVC and store are real."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.damage import build, contents
from flows.checkout.commands import git
from flows.custody.walk import look
from flows.dag import workspace
from flows.prune.plan import Rules
from flows.prune.walk import Plan, prune
from slipway.fleet.inventory import load_fleet
from slipway.fleet.keys import ensure_local_keys
from slipway.runs import record
from slipway.runs.run import Run
from slipway.store.bundles import bundle_exists, upload_bundle
from slipway.store.channel import next_channel, read_channel, write_channel
from slipway.store.ledger import append
from slipway.store.objects import Store
from tests.bundles import Keys, make_bundle
from tests.flow_project import PIPELINE, REPOSITORY
from tests.support.pace import limit

pytestmark = [
    pytest.mark.slow,  # DVC looks at the whole project again and again
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]

LATER = datetime.now(UTC) + timedelta(days=200)
"""Everything that a test made is old by then."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("made") / "project")


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def clear(root: Path, *, stores: bool = False, dry_run: bool = False, runs: int = 1) -> Plan:
    return prune(root, Rules(LATER, runs, 90), with_stores=stores, dry_run=dry_run)


def gone(plan: Plan, kind: str) -> list[str]:
    return [item.name for each in plan.all if each.kind == kind for item in each.goes]


def add_object(root: Path, name: str) -> Path:
    """Put an object into DVC's cache under a name that something may need."""
    path = root / f".dvc/cache/files/md5/{name[:2]}/{name[2:]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
    path.chmod(0o444)
    return path


def commit(root: Path, name: str) -> None:
    """Commit a pointer to an object."""
    told = f"outs:\n- md5: {name}\n  size: 32\n  hash: md5\n  path: pointed\n"
    (root / "pointed.dvc").write_text(told)
    git(root, "add", "-f", "pointed.dvc")
    git(root, "-c", "user.name=t", "-c", "user.email=t@e.org", "commit", "-qm", name)


def test_objects_that_a_branch_a_tag_or_a_checkout_needs_stay(root: Path, tmp_path: Path):
    before = set((root / ".dvc/cache/files/md5").glob("*/*"))
    on_branch, on_tag, lost, in_tree, unused = (
        add_object(root, f"{digit}" * 32) for digit in "abcde"
    )
    main = git(root, "symbolic-ref", "--short", "HEAD")
    git(root, "switch", "-qc", "other")
    commit(root, "a" * 32)
    git(root, "switch", "-q", "--detach", main)
    commit(root, "b" * 32)
    git(root, "tag", "v1")
    git(root, "switch", "-q", "--detach", main)
    commit(root, "c" * 32)  # nothing leads to this commit afterwards
    git(root, "switch", "-q", main)
    git(root, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"), main)
    lock = tmp_path / "tree/dvc.lock"
    lock.write_text(lock.read_text() + f"# md5: {'d' * 32}\n")

    plan = clear(root)
    assert sorted(gone(plan, "cache")) == ["c" * 32, "e" * 32]
    assert [path.exists() for path in (on_branch, on_tag, lost, in_tree, unused)] == [
        *(True, True, False, True, False)
    ]
    assert before <= set((root / ".dvc/cache/files/md5").glob("*/*"))


def test_what_only_the_run_cache_named_goes_and_what_a_released_version_was_made_of_stays(
    root: Path,
):
    (bundle, *_) = sorted((root / ".slipway/store/bundles").glob(f"{PIPELINE}/*"))
    lineage = json.loads((bundle / "lineage.json").read_text())
    made_of, run_cached = add_object(root, "1" * 32), add_object(root, "2" * 32)
    (bundle / "lineage.json").write_text(json.dumps(lineage | {"dvc_lock": {"raw": "1" * 32}}))
    entry = root / f".dvc/cache/runs/aa/{'a' * 64}/{'b' * 64}"
    entry.parent.mkdir(parents=True)
    entry.write_text(f"outs:\n- path: x\n  md5: {'2' * 32}\n")
    assert gone(clear(root), "cache") == ["2" * 32]
    assert (made_of.exists(), run_cached.exists()) == (True, False)


def test_a_cache_that_others_may_share_is_left_alone(root: Path, tmp_path: Path):
    shutil.move(root / ".dvc/cache", tmp_path / "shared")
    (root / ".dvc/config.local").write_text(f"[cache]\n    dir = {tmp_path / 'shared'}\n")
    path = tmp_path / "shared/files/md5/ee" / ("e" * 30)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    plan = clear(root)
    assert path.exists()
    assert "not this repository's alone" in next(iter(plan.cache.kept))


def publish(root: Path, bias: float) -> str:
    fleet = load_fleet(root, "local")
    keys = ensure_local_keys(root, fleet)
    folder = root / ".slipway/made"
    version = make_bundle(folder, PIPELINE, Keys(keys.builder.parent), bias=bias)
    upload_bundle(Store(fleet.store), folder, PIPELINE)
    shutil.rmtree(folder)
    return version


def test_bundles_that_nothing_needs_go_only_when_asked_and_a_rejected_one_stays_rejected(
    root: Path,
):
    fleet = load_fleet(root, "local")
    store, keys = Store(fleet.store), ensure_local_keys(root, fleet)
    shutil.rmtree(fleet.state)
    rejected, candidate, unused = (publish(root, bias) for bias in (0.5, 0.6, 0.7))
    now = read_channel(store, "local", PIPELINE, fleet_keys(root))
    assert now is not None
    signed = next_channel(
        now.channel, fleet="local", model=PIPELINE, stable=now.channel.stable, reason="bad",
        candidate=None, rejected=[rejected], issued_at="2026-01-02T00:00:00Z",
    )  # fmt: skip
    channel = write_channel(store, signed, keys.release)
    entry = {"at": "2026-01-02T00:00:00Z", "decision": "canary started", "reason": "new"}
    append(store, "local", PIPELINE, entry | {"version": candidate})

    def there() -> list[bool]:
        return [bundle_exists(store, PIPELINE, v) for v in (rejected, candidate, unused)]

    assert gone(clear(root), "bundles") == []
    assert there() == [True, True, True]
    assert len(gone(clear(root, stores=True, dry_run=True), "bundles")) == 2
    assert there() == [True, True, True]
    clear(root, stores=True)
    assert there() == [False, True, False], "the ledger's newest decisions name the candidate"
    assert bundle_exists(store, PIPELINE, str(now.channel.stable))
    again = read_channel(store, "local", PIPELINE, fleet_keys(root))
    assert again == channel
    assert again.channel.rejected == [rejected]
    assert look(root) == []


def fleet_keys(root: Path):
    from slipway.bundle.signing import TrustedKeys

    return TrustedKeys(load_fleet(root, "local").trusted_keys)


def test_a_bundle_that_a_host_has_stays(root: Path):
    version = publish(root, 0.9)
    (load_fleet(root, "local").state / f"a/cache/{PIPELINE}/{version}").mkdir()
    assert gone(clear(root, stores=True), "bundles") == []


def test_a_channel_that_cannot_be_read_stops_the_prune(root: Path):
    path = root / f".slipway/store/channels/local/{PIPELINE}/000000000002.json"
    path.write_text("{}")
    before = contents(root)
    with pytest.raises(Exception, match="so nothing says what may go"):
        clear(root, stores=True)
    assert contents(root) == before


def test_old_records_go_but_for_the_newest_and_those_that_releases_name(root: Path):
    store = Store(load_fleet(root, "local").store)
    runs = [record.begin(root, Run(pipeline=PIPELINE)) for _ in range(4)]
    for each in runs:
        each.close("completed")
    entry = {"at": "2026-01-02T00:00:00Z", "decision": "promoted", "version": "a" * 64}
    append(store, "local", PIPELINE, entry | {"reason": "good", "run": runs[0].run.run})
    clear(root, runs=1)
    left = {path.name for path in (root / ".slipway/runs").glob("2*")}
    assert runs[0].run.run in left
    assert (root / ".slipway/runs/latest/run.json").is_file()
    assert len(left) <= 3


def test_checkpoints_go_when_they_are_old(root: Path):
    checkpoint = root / ".slipway/checkpoints/0123456789abcdef"
    prune(root, Rules(datetime.now(UTC), 1, 90), with_stores=False, dry_run=False)
    assert checkpoint.exists()
    for path in (checkpoint, *checkpoint.rglob("*")):
        os.utime(path, (0, 0))
    prune(root, Rules(datetime.now(UTC), 1, 90), with_stores=False, dry_run=False)
    assert not checkpoint.exists()


def test_a_dry_run_changes_nothing_and_the_table_says_why_things_stay(root: Path):
    add_object(root, "e" * 32)
    before = contents(root)
    plan = clear(root, stores=True, dry_run=True)
    assert gone(plan, "cache") == ["e" * 32]
    assert contents(root) == before


def test_it_waits_for_a_run_that_is_at_work(root: Path):
    path = add_object(root, "e" * 32)
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"}
    command = [sys.executable, "-m", "slipway.cli", "prune", "--keep-runs", "1"]
    with workspace.only_run(root, print):
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stderr is not None
        assert "waiting for another run" in process.stderr.readline()
        assert path.exists()
    out, err = process.communicate(timeout=limit(60))
    assert process.returncode == 0, err
    assert not path.exists()
    assert "cache                1" in out
