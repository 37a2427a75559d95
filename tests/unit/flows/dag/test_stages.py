"""The DAG as DVC has it: order, what is stale, what waits for what."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from flows.dag import lock_file, stages
from flows.dag.stages import Stage
from slipway.errors import ConfigError, SlipwayError
from tests.flow_project import Project
from tests.support.processes import alive
from tests.support.waiting import wait_until

# DVC's own use of its trie library
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

MATRIX = """
vars:
  - pipelines: [my-flights, other]
stages:
  train:
    foreach: ${pipelines}
    do:
      cmd: 'true'
      deps: [inputs/train.txt]
      outs:
        - models/${item}/weights
  quantize:
    matrix:
      pipeline: ${pipelines}
      precision: [int8-static]
    cmd: 'true'
    deps:
      - models/${item.pipeline}/weights
    outs:
      - models/${item.pipeline}/${item.precision}
  prove:
    foreach: ${pipelines}
    do:
      cmd: 'true'
      meta: {alone: true}
      deps:
        - models/${item}/int8-static
      outs:
        - models/${item}/gates
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that no stage of has run; tests only read it."""
    return Project(tmp_path_factory.mktemp("stages") / "project")


@pytest.fixture
def other_dag(project: Project) -> Iterator[Path]:
    """The same project with two pipelines and a matrix."""
    path = project.root / "dvc.yaml"
    before = path.read_text()
    path.write_text(MATRIX)
    yield project.root
    path.write_text(before)


def stage(name: str, *upstream: str, stale: bool = False, alone: bool = False) -> Stage:
    return Stage(name, name, upstream, alone, ("changed",) if stale else ())


def test_stages_come_inputs_first_with_what_makes_them_stale(project: Project) -> None:
    found = stages.read_stages(project.root, "tiny")
    assert [s.title for s in found] == [
        "ingest",
        "train",
        "evaluate",
        "export",
        "prove",
        "payload",
    ]
    train = found[1]
    assert (train.address, train.upstream) == ("train@tiny", ("ingest@tiny",))
    assert "inputs/train.txt modified" in train.stale


def test_a_branch_of_a_matrix_belongs_to_the_pipeline_that_reads_it(other_dag: Path) -> None:
    found = stages.read_stages(other_dag, "my-flights")
    assert [s.address for s in found] == [
        "train@my-flights",
        "quantize@my-flights-int8-static",
        "prove@my-flights",
    ]
    assert [s.title for s in found] == ["train", "quantize int8-static", "prove"]
    assert [s.alone for s in found] == [False, False, True]


def test_a_pipeline_without_stages_is_refused(project: Project) -> None:
    for ask in (stages.read_stages, stages.require):
        with pytest.raises(ConfigError, match="no stage of pipeline 'flight'"):
            ask(project.root, "flight")


def test_a_pipeline_is_looked_up_although_dvc_lock_was_cut_off(project: Project) -> None:
    lock = project.root / "dvc.lock"
    lock.write_text("schema: '2.")
    try:
        stages.require(project.root, "tiny")
    finally:
        lock.unlink()


def test_a_broken_dvc_yaml_is_told_in_one_message(project: Project) -> None:
    path = project.root / "dvc.yaml"
    before = path.read_text()
    path.write_text("stages: {train: {cmd: 3}}")
    try:
        with pytest.raises(SlipwayError, match=r"DVC cannot read this project.*dvc\.yaml"):
            stages.read_stages(project.root, "tiny")
    finally:
        path.write_text(before)


@contextmanager
def locked_by(project: Project, owner: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Have a process in DVC's lock table, at work on a stage."""
    lock = project.root / ".dvc/tmp/rwlock"
    path = str(project.root / "models/tiny/weights")
    lock.write_text(f'{{"write": {{"{path}": {{"pid": {owner.pid}, "cmd": "dvc repro"}}}}}}')
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        owner.kill()
        owner.wait()


def test_a_stage_locked_by_another_dvc_command_is_waited_for(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = subprocess.Popen(["sleep", "2"])
    collects = threading.Thread(target=owner.wait)
    with locked_by(project, owner):
        collects.start()
        assert stages.read_stages(project.root, "tiny")
        collects.join()
    assert f"waiting for process {owner.pid} (sleep 2)" in capsys.readouterr().err


def test_one_locked_by_a_process_that_nobody_collects_is_told(project: Project) -> None:
    owner = subprocess.Popen(["true"])
    wait_until(lambda: not alive(owner.pid), "it has ended")
    with locked_by(project, owner), pytest.raises(SlipwayError, match=f"PID {owner.pid}"):
        stages.read_stages(project.root, "tiny")


def test_what_reads_from_a_stale_stage_has_to_be_asked_again() -> None:
    dag = [
        stage("a"),
        stage("b", "a", stale=True),
        stage("c", "a"),
        stage("d", "b", "c"),
        stage("e", "d"),
    ]
    assert [s.address for s in stages.to_run(dag)] == ["b", "d", "e"]


def test_a_stage_waits_for_those_of_its_inputs_that_run() -> None:
    running = [stage("b", "a"), stage("c", "a", "b")]
    assert stages.wait_for(running) == {"b": set(), "c": {"b"}}


def test_a_stage_that_measures_time_runs_alone() -> None:
    dag = [
        stage("train"),
        stage("evaluate", "train"),
        stage("export", "train"),
        stage("prove", "export", alone=True),
        stage("payload", "prove"),
    ]
    before = stages.wait_for(dag)
    assert before["prove"] == {"train", "evaluate", "export"}
    assert before["payload"] == {"prove"}


def test_two_stages_that_measure_time_take_turns() -> None:
    before = stages.wait_for([stage("a", alone=True), stage("b", alone=True), stage("c", "a")])
    assert before == {"a": {"b"}, "b": set(), "c": {"a"}}


def test_dvc_lock_is_put_into_the_order_of_dvc_repro(project: Project) -> None:
    path = project.root / "dvc.lock"
    (project.root / ".slipway").mkdir(exist_ok=True)
    entry = {"cmd": "true"}
    names = ["payload@tiny", "gone@tiny", "ingest@tiny", "train@tiny"]
    path.write_text(yaml.safe_dump({"schema": "2.0", "stages": dict.fromkeys(names, entry)}))
    try:
        stages.put_in_order(project.root)
        found = yaml.safe_load(path.read_text())
        assert list(found) == ["schema", "stages"]
        assert list(found["stages"]) == ["ingest@tiny", "train@tiny", "payload@tiny", "gone@tiny"]
        once = path.read_bytes()
        stages.put_in_order(project.root)
        assert path.read_bytes() == once
    finally:
        path.unlink()


@pytest.mark.parametrize(
    "cut_off", ["schema: '2.0'\nstages:\n  train@tiny:\n    cm", "schema: '2.", "stages: [1]\n"]
)
def test_a_dvc_lock_that_was_cut_off_is_set_aside(project: Project, cut_off: str) -> None:
    path = project.root / "dvc.lock"
    path.write_text(cut_off)
    said: list[str] = []
    lock_file.heal_lock_file(project.root, said.append)
    assert not path.exists()
    assert (project.root / ".slipway/dvc.lock.damaged").read_text() == cut_off
    assert len(said) == 1


def test_a_good_dvc_lock_is_kept(project: Project) -> None:
    path = project.root / "dvc.lock"
    path.write_text("schema: '2.0'\nstages:\n  train@tiny:\n    cmd: 'true'\n")
    try:
        lock_file.heal_lock_file(project.root, pytest.fail)
        assert path.exists()
    finally:
        path.unlink()
