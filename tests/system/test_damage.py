"""A flow hands out no damage that DVC's cache gave back, and believes none that lies there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flows.dag import seals
from tests.flow_project import PIPELINE, Project
from tests.prefect_server import PrefectServer

pytestmark = pytest.mark.slow  # runs that import Prefect and DVC

OUT = Path(f"models/{PIPELINE}/evaluation")
"""No stage reads it."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("damage") / "project")
    server = PrefectServer(tmp_path_factory.mktemp("server"), project.environment())
    project.api = server.api
    try:
        done = project.deliver("--build-only")
        assert done.code == 0, done.err
        yield project
    finally:
        server.stop()


def spoil_cache(project: Project, data: bytes) -> None:
    """Put other bytes into every cached object that holds the stage's text."""
    for path in (project.root / ".dvc/cache/files/md5").rglob("*"):
        if path.is_file() and path.read_bytes() == b"evaluate":
            path.chmod(0o644)
            path.write_bytes(data)
            path.chmod(0o444)  # as a disk that decays leaves it; DVC looks twice at others


@pytest.mark.parametrize("data", [b"evaluatf", b"eval"], ids=["flipped", "cut"])
def test_damage_from_the_cache_has_its_stage_run_anew(project: Project, data: bytes) -> None:
    lock = (project.root / "dvc.lock").read_bytes()
    spoil_cache(project, data)
    shutil.rmtree(project.root / OUT)
    done = project.deliver("--build-only")
    assert done.code == 0, done.err
    assert "DVC's cache gave back damage (text.txt differs" in done.err
    assert seals.damage(project.root, [OUT]) == []
    assert (project.root / "dvc.lock").read_bytes() == lock
    shutil.rmtree(project.root / OUT)  # and the cache holds no more of it
    assert project.dvc("checkout", "--force").code == 0
    assert seals.damage(project.root, [OUT]) == []


def test_damage_that_dvc_takes_to_be_up_to_date_has_its_stage_run_anew(project: Project) -> None:
    spoil_cache(project, b"evaluatf")
    shutil.rmtree(project.root / OUT)
    assert project.dvc("checkout", "--force").code == 0
    assert (project.root / OUT / "text.txt").read_bytes() == b"evaluatf"
    done = project.deliver("--build-only")
    assert done.code == 0, done.err
    assert (project.root / OUT / "text.txt").read_bytes() == b"evaluate"
    states = {s["stage"]: s["state"] for s in project.run_json()["stages"]}
    assert states[f"evaluate@{PIPELINE}"] == "ran"
    assert states[f"train@{PIPELINE}"] == "skipped"


def test_a_probe_and_a_lock_that_a_crash_cut_are_set_right(project: Project) -> None:
    (probe,) = (project.root / ".slipway/incoming/.slipway/probes").glob("*.json")
    probe.write_text(probe.read_text()[:20])
    lock = project.root / "dvc.lock"
    whole = yaml.safe_load(lock.read_text())
    lock.write_text(lock.read_text()[:-40])
    done = project.deliver("--build-only")
    assert done.code == 0, done.err
    assert yaml.safe_load(lock.read_text()) == whole
