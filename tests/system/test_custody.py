"""Damage to what a project holds is found, said and healed; DVC, store and seals are real."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.damage import build, contents
from flows.custody.walk import heal, look
from flows.dag.lock_file import read_lock
from tests.flow_project import PIPELINE, REPOSITORY

pytestmark = [
    pytest.mark.slow,  # DVC looks at the whole project again and again
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("made") / "project")


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The project, which a test may damage."""
    kept = tmp_path / "kept"
    shutil.copytree(made, kept, symlinks=True)
    yield made
    shutil.rmtree(made)
    shutil.copytree(kept, made, symlinks=True)


def environment() -> dict[str, str]:
    """Return an environment in which this interpreter and this repository come first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    code = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])
    return {**os.environ, "PATH": path, "PYTHONPATH": code}


def flip(path: Path) -> None:
    """Flip a bit as a disk does: the time stays."""
    stamp, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(stamp.st_mode)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def first(root: Path, pattern: str) -> Path:
    return next(path for path in sorted(root.glob(pattern)) if path.is_file())


def kinds(root: Path) -> list[str]:
    return sorted({damage.kind for damage in look(root)})


def test_a_whole_project_has_no_damage(root: Path):
    assert look(root) == []
    assert heal(root) == []


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        (".dvc/cache/files/md5/*/*", "cache"),
        (".dvc/cache/files/md5/*/*.dir", "cache"),
        (f"models/{PIPELINE}/weights/text.txt", "output"),
        (f"models/{PIPELINE}/weights/SHA256SUMS", "output"),
        (".slipway/store/bundles/*/*/model.onnx", "bundle"),
        (".slipway/store/bundles/*/*/bundle.sig", "bundle"),
        (".slipway/store/bundles/*/*/manifest.json", "bundle"),
        (".slipway/store/channels/local/*/000000000002.json", "channel"),
        (".slipway/fleets/local/hosts/a/cache/*/*/model.onnx", "copy"),
    ],
)
@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["flipped", "deleted"])
def test_what_has_a_whole_copy_comes_back_to_the_byte(root: Path, pattern, kind, damage):
    before = contents(root)
    damage(first(root, pattern))
    assert kinds(root) == [kind]
    assert all(mended.left is None for mended in heal(root))
    assert contents(root) == before
    assert look(root) == []


def test_an_output_that_the_cache_lacks_too_goes_so_that_it_is_made_again(root: Path):
    out = root / f"models/{PIPELINE}/weights"
    flip(out / "text.txt")
    shutil.rmtree(root / ".dvc/cache/files")
    (mended,) = (m for m in heal(root) if m.damage.kind == "output")
    assert "slipway build" in str(mended.left)
    assert not out.exists()
    assert look(root) == []


def test_a_damaged_checkpoint_goes_and_the_one_before_stays(root: Path):
    folders = root / ".slipway/checkpoints/0123456789abcdef"
    flip(folders / "step-00000020/model.safetensors")
    assert kinds(root) == ["checkpoint"]
    heal(root)
    assert [path.name for path in folders.iterdir()] == ["step-00000010"]
    assert look(root) == []


def test_a_bundle_of_which_no_host_has_a_copy_is_told_and_left(root: Path):
    shutil.rmtree(root / ".slipway/fleets/local/hosts")
    flip(first(root, ".slipway/store/bundles/*/*/golden.arrow"))
    before = contents(root)
    (mended,) = heal(root)
    assert f"slipway run {PIPELINE}" in str(mended.left)
    assert contents(root) == before


def test_a_hosts_copy_that_is_damaged_as_well_heals_nothing(root: Path):
    bundle = first(root, ".slipway/store/bundles/*/*/model.onnx")
    for copy in root.glob(f".slipway/fleets/local/hosts/*/cache/*/{bundle.parent.name}/card.md"):
        flip(copy)
    flip(bundle)
    mended = heal(root)
    assert {m.damage.kind for m in mended} == {"bundle", "copy"}
    assert all(m.damage.mend is None for m in mended)


def test_a_hosts_copy_is_healed_from_its_neighbour_where_the_store_is_gone(root: Path):
    copy = first(root, ".slipway/fleets/local/hosts/a/cache/*/*/model.onnx")
    whole = contents(copy.parent)
    flip(copy)
    shutil.rmtree(root / ".slipway/store/bundles")
    (mended,) = heal(root)
    assert (mended.damage.kind, mended.left) == ("copy", None)
    assert "hosts/b/cache" in mended.damage.cure
    assert contents(copy.parent) == whole
    assert all(len(path.name) == 64 for path in copy.parent.parent.iterdir())  # nothing aside


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        (".slipway/store/ledger/local/*/*.json", "ledger"),
        (".slipway/store/channels/local/*/000000000001.json", "channel"),
        (".slipway/runs/*/run.json", "run"),
        (".slipway/runs/*/logs/train.log", "run"),
    ],
)
def test_history_that_has_no_copy_is_told_and_left(root: Path, pattern: str, kind: str):
    flip(next(p for p in sorted(root.glob(pattern)) if "latest" not in p.parts))
    (mended,) = heal(root)
    assert (mended.damage.kind, mended.left) == (kind, mended.damage.cure)


def lock_of(root: Path, old: str, new: str) -> None:
    text = (root / "dvc.lock").read_text()
    assert old in text
    (root / "dvc.lock").write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("md5: ", "md5: f"),
        ("md5: ", "md5: 1 # "),
        ("stages:", "stages;"),
        (f"  train@{PIPELINE}:", f"  tram@{PIPELINE}:"),
    ],
    ids=["a digest", "a digest that is none", "its form", "a name"],
)
def test_a_dvc_lock_that_no_run_wrote_gets_back_what_the_commit_has(root: Path, old, new):
    before = (root / "dvc.lock").read_text()
    lock_of(root, old, new)
    assert "dvc.lock" in kinds(root)
    heal(root)
    assert look(root) == []
    after = read_lock(root)[1]
    (root / "dvc.lock").write_text(before)
    whole = read_lock(root)[1]  # an entry that nothing declares may stay beside these
    assert {name: after.get(name) for name in whole} == whole


def test_a_dvc_lock_that_is_gone_comes_back(root: Path):
    (root / "dvc.lock").unlink()
    assert kinds(root) == ["dvc.lock"]
    heal(root)
    assert look(root) == []


def test_results_that_are_not_committed_yet_are_no_damage(root: Path):
    (root / "inputs/evaluate.txt").write_text("new")
    command = [sys.executable, "-m", "dvc", "repro", f"evaluate@{PIPELINE}"]
    subprocess.run(command, cwd=root, env=environment(), check=True, stdout=subprocess.DEVNULL)
    assert look(root) == []


def test_a_clone_that_has_nothing_yet_has_no_damage(root: Path):
    for name in (".dvc/cache", ".slipway/checkpoints", ".slipway/runs", ".slipway/store", "models"):
        shutil.rmtree(root / name, ignore_errors=True)
    shutil.rmtree(root / f"data/{PIPELINE}/raw")
    shutil.rmtree(root / ".slipway/fleets/local/hosts")
    assert look(root) == []


def test_the_command_says_what_is_damaged_and_its_exit_code_what_is_left(root: Path):
    flip(root / f"models/{PIPELINE}/weights/text.txt")

    def verify(*options: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "slipway.cli", "verify", "--all", *options],
            cwd=root, env=environment(), text=True, capture_output=True,
        )  # fmt: skip

    looked = verify("--json")
    (damage,) = json.loads(looked.stdout)["damaged"]
    assert (looked.returncode, damage["place"]) == (1, f"models/{PIPELINE}/weights")
    healed = verify("--heal")
    assert (healed.returncode, "1 damaged; 0 left" in healed.stdout) == (0, True)
    assert verify().stdout.startswith("no damage")
