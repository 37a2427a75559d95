"""Damage that DVC hands out is seen, and what its cache holds of it goes; DVC is the real one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.dag import seals
from tests.flow_project import PIPELINE, Project

OUT = Path(f"models/{PIPELINE}/evaluation")
ADDRESS = f"evaluate@{PIPELINE}"

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("made") / "project")
    (project.root / f"data/{PIPELINE}/sources.lock").write_text("{}")
    done = project.dvc("repro", ADDRESS)
    assert done.code == 0, done.err
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Iterator[Project]:
    """The project with its outputs, whose cache this test may damage."""
    kept = tmp_path / "kept"
    shutil.copytree(made.root, kept, symlinks=True)
    yield made
    shutil.rmtree(made.root)
    shutil.copytree(kept, made.root, symlinks=True)


def cached(project: Project, suffix: str = "") -> Path:
    """Find the cached object of the output's text, or of the list of its files."""
    lock = (project.root / "dvc.lock").read_text()
    folder = lock.partition(f"path: {OUT}\n")[2].partition("md5: ")[2].split()[0]
    store = project.root / ".dvc/cache/files/md5"
    listing = store / folder[:2] / folder[2:]
    if suffix:
        return listing
    (text,) = (e["md5"] for e in json.loads(listing.read_bytes()) if e["relpath"] == "text.txt")
    return store / text[:2] / text[2:]


def damaged(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def restored(project: Project) -> None:
    """Let DVC bring the output back from its cache, as it does for a stage that it need not run."""
    shutil.rmtree(project.root / OUT)
    shutil.rmtree(project.root / ".dvc/tmp")  # nothing remembers what was checked before
    done = project.dvc("checkout", "--force", ADDRESS)
    assert done.code == 0, done.err


def test_what_a_stage_made_is_not_damaged(project: Project) -> None:
    assert seals.damage(project.root, [OUT]) == []


@pytest.mark.parametrize("data", [b"evaluatf", b"eval", b""], ids=["flipped", "cut", "empty"])
def test_dvc_gives_back_damage_without_a_word_and_the_seal_shows_it(
    project: Project, data: bytes
) -> None:
    damaged(cached(project), data)
    restored(project)
    assert (project.root / OUT / "text.txt").read_bytes() == data
    assert seals.damage(project.root, [OUT]) == ["text.txt differs from its SHA-256"]


def test_a_folder_that_came_back_without_its_seal_is_damaged(project: Project) -> None:
    (project.root / OUT / "SHA256SUMS").unlink()
    assert seals.damage(project.root, [OUT]) == ["SHA256SUMS is missing"]


def test_damaged_objects_leave_the_cache_and_good_ones_stay(project: Project) -> None:
    bad, listing = cached(project), cached(project, ".dir")
    damaged(bad, b"evaluatf")
    assert seals.drop_damaged_objects(project.root, ADDRESS) == 1
    assert (bad.exists(), listing.exists()) == (False, True)
    assert seals.drop_damaged_objects(project.root, ADDRESS) == 0


def test_a_damaged_list_of_files_leaves_the_cache_too(project: Project) -> None:
    listing = cached(project, ".dir")
    damaged(listing, listing.read_bytes()[:-9])
    assert seals.drop_damaged_objects(project.root, ADDRESS) == 1
    assert not listing.exists()


def test_a_stage_that_dvc_lock_does_not_know_has_nothing_in_the_cache(project: Project) -> None:
    assert seals.drop_damaged_objects(project.root, f"payload@{PIPELINE}") == 0
