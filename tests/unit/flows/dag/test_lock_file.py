"""A dvc.lock that a crash cut: whole entries stay, lost ones come back from the commit."""

import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from flows.dag import lock_file, opening, stages
from tests.flow_project import Project

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

TWO = {"vars": [{"pipelines": ["one", "two"]}]}


def entry(name: str) -> dict[str, object]:
    outs = [{"path": f"models/{name}", "hash": "md5", "md5": "0" * 32 + ".dir", "size": 7}]
    return {"cmd": f"echo {name}", "outs": outs}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with two pipelines, whose dvc.lock is committed whole."""
    root = Project(tmp_path / "project").root
    stage = {"foreach": "${pipelines}", "do": {"cmd": "echo ${item}", "outs": ["models/${item}"]}}
    (root / "dvc.yaml").write_text(yaml.safe_dump(TWO | {"stages": {"train": stage}}))
    entries = {f"train@{name}": entry(name) for name in ("one", "two", "gone")}
    text = yaml.safe_dump({"schema": "2.0", "stages": entries}, sort_keys=False)
    (root / "dvc.lock").write_text(text)
    author = ["-c", "user.name=n", "-c", "user.email=e"]
    for command in (["add", "."], [*author, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


def healed(root: Path) -> tuple[list[str], list[str]]:
    said: list[str] = []
    lock_file.heal_lock_file(root, said.append)
    return sorted(yaml.safe_load((root / "dvc.lock").read_text())["stages"]), said


def test_every_place_where_the_file_may_be_cut_gives_all_entries_back(project: Path) -> None:
    path = project / "dvc.lock"
    whole = path.read_text()
    for length in range(0, len(whole) - 1, 17):
        path.write_text(whole[:length])
        names, said = healed(project)
        assert {"train@one", "train@two"} <= {*names}, f"cut after {length}"
        assert len(said) <= 1  # nothing is lost where only the last line's end is
        for name in ("one", "two"):
            found = yaml.safe_load(path.read_text())["stages"][f"train@{name}"]
            assert found == entry(name)


def test_what_is_newer_than_the_commit_stays(project: Path) -> None:
    path = project / "dvc.lock"
    newer = entry("one") | {"cmd": "echo newer"}
    stages = {"train@one": newer, "train@two": entry("two")}
    text = yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False)
    path.write_text(text[:-30])
    assert healed(project)[0] == ["train@one", "train@two"]
    assert yaml.safe_load(path.read_text())["stages"]["train@one"] == newer


def test_an_entry_that_was_lost_without_a_trace_comes_back(project: Path) -> None:
    path = project / "dvc.lock"
    path.write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train@one": entry("one")}}))
    names, said = healed(project)
    assert names == ["train@one", "train@two"]
    assert said == [
        "dvc.lock lacked entries: kept as .slipway/dvc.lock.damaged; 1 entries were put back from"
        " the commit"
    ]


def test_an_entry_of_a_stage_that_is_gone_does_not_come_back(project: Path) -> None:
    path = project / "dvc.lock"
    stages = {f"train@{name}": entry(name) for name in ("one", "two")}
    text = yaml.safe_dump({"schema": "2.0", "stages": stages})
    path.write_text(text)
    assert healed(project) == (["train@one", "train@two"], [])
    assert path.read_text() == text
    assert not (project / ".slipway/dvc.lock.damaged").exists()


def test_an_output_that_dvc_yaml_no_longer_names_is_not_missed(project: Path) -> None:
    path = project / "dvc.lock"
    other = entry("one") | {"outs": [{**entry("one")["outs"][0], "path": "elsewhere/one"}]}
    dag = yaml.safe_load((project / "dvc.yaml").read_text())
    dag["stages"]["train"]["do"]["outs"] = ["elsewhere/${item}"]
    (project / "dvc.yaml").write_text(yaml.safe_dump(dag))
    stages = {"train@one": other, "train@two": other}
    text = yaml.safe_dump({"schema": "2.0", "stages": stages})
    path.write_text(text)
    assert healed(project) == (["train@one", "train@two"], [])
    assert path.read_text() == text


def test_what_a_living_dvc_is_writing_is_waited_for_and_no_damage(project: Path) -> None:
    path = project / "dvc.lock"
    whole = path.read_text()
    reads, writes = os.pipe()
    writer = os.fork()
    if writer == 0:  # as `dvc repro` beside: in place, under its lock
        with opening.opened(project) as repo, opening.locked(repo):
            path.write_text(whole[: len(whole) // 2])
            os.write(writes, b"x")
            time.sleep(2)
            path.write_text(whole)
        os._exit(0)
    os.read(reads, 1)
    names, said = healed(project)
    assert os.waitpid(writer, 0)[1] == 0
    assert path.read_text() == whole
    assert names == ["train@gone", "train@one", "train@two"]
    assert [line.partition(" for ")[0] for line in said] in ([], ["waiting"])


def test_stages_are_read_when_nobody_writes_dvc_lock(project: Path) -> None:
    (project / "dvc.lock").write_text("schema: '2.0'\nstages:\n  train@one:\n    cm")
    whole = yaml.safe_dump({"schema": "2.0", "stages": {"train@one": entry("one")}})
    reads, writes = os.pipe()
    writer = os.fork()
    if writer == 0:
        with opening.opened(project) as repo, opening.locked(repo):
            os.write(writes, b"x")
            time.sleep(2)
            (project / "dvc.lock").write_text(whole)
        os._exit(0)
    os.read(reads, 1)
    found = stages.read_stages(project, "one")
    assert os.waitpid(writer, 0)[1] == 0
    assert [stage.address for stage in found] == ["train@one"]
