"""The train stage around its loop: the job, how it is started, and what comes of it."""

import json
from functools import partial
from pathlib import Path

import pytest

from slipway.config import load_config
from slipway.errors import SlipwayError
from slipway.settings.families import FamiliesConfig, NetworkConfig
from tasks import train
from tasks.checkpoints import Checkpoints
from tasks.train.job import TrainingJob, read_job
from tests.project import REPOSITORY


class Ranks:
    """A launcher whose ranks do nothing but leave a history behind, or fail."""

    def __init__(self, exit_code: int = 0, history: dict[str, int] | None = None) -> None:
        self.exit_code, self.history = exit_code, history or {}
        self.started: list[tuple[TrainingJob, int, int]] = []

    def __call__(self, path: Path, *, processes: int, threads: int) -> int:
        job = read_job(path)
        self.started.append((job, processes, threads))
        (job.checkpoints / "step-00000010").mkdir()
        (job.report / "history.json").write_text(json.dumps(self.history))
        return self.exit_code


@pytest.fixture
def config() -> NetworkConfig:
    found = load_config(REPOSITORY, "flights").families.network
    assert isinstance(found, NetworkConfig)
    return found.model_copy(update={"processes": 3, "threads": 2})


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    names = ("prepared", "weights", "training_report", "checkpoints")
    made = {name: tmp_path / name for name in names}
    for folder in made.values():
        folder.mkdir()
    (made["prepared"] / "SHA256SUMS").write_text("")
    return made


@pytest.fixture
def run(folders):
    """The network's run(), with its folders."""
    others = {name: path for name, path in folders.items() if name != "checkpoints"}
    return partial(
        train.run, family="network", checkpoints=Checkpoints(folders["checkpoints"]), **others
    )


def test_the_launcher_is_given_the_whole_job_and_the_processes_of_the_config(config, folders, run):
    ranks = Ranks()
    run(config, ranks)
    [(job, processes, threads)] = ranks.started
    assert (processes, threads) == (3, 2)
    assert (job.config, job.family) == (config, "network")
    assert (job.prepared, job.weights) == (folders["prepared"], folders["weights"])
    assert job.checkpoints.parent == folders["checkpoints"]


def test_checkpoints_of_a_training_that_ended_are_removed(config, folders, run):
    run(config, Ranks())
    assert list(folders["checkpoints"].iterdir()) == []


def test_a_training_that_failed_keeps_its_checkpoints_for_the_next(config, run):
    ranks = Ranks(exit_code=7)
    with pytest.raises(SlipwayError, match="training ended with exit code 7"):
        run(config, ranks)
    [(job, *_)] = ranks.started
    assert [path.name for path in job.checkpoints.iterdir()] == ["step-00000010"]


def test_a_training_that_diverged_names_what_to_change(config, run):
    with pytest.raises(
        SlipwayError, match=r"not finite at step 40; lower families\.network\.learning_rate"
    ):
        run(config, Ranks(history={"diverged_at": 40}))


def test_checkpoints_are_known_by_all_code_that_decides_a_training():
    code = {path.relative_to(REPOSITORY).as_posix() for path in train.code_files("network")}
    assert {
        "src/slipway/problem/binary.py",
        "src/slipway/problem/regression.py",
        "tasks/models/network/module.py",
        "tasks/models/network/objectives.py",
        "tasks/shards.py",
        "tasks/train/launch/local.py",
        "tasks/train/worker.py",
    } < code
    assert not {each for each in code if each.startswith("tasks/models/trees")}


def test_an_edit_of_how_a_graph_is_made_leaves_checkpoints_as_they_are():
    code = {path.relative_to(REPOSITORY).as_posix() for path in train.code_files("network")}
    assert "tasks/models/network/graph.py" not in code


def test_a_family_that_is_off_writes_that_and_nothing_else(folders, run):
    families = load_config(REPOSITORY, "flights").families
    assert isinstance(families, FamiliesConfig)
    ranks = Ranks()
    run(families, ranks)
    assert ranks.started == []
    for name in ("weights", "training_report"):
        assert [path.name for path in folders[name].iterdir()] == ["off.json"]
    assert list(folders["checkpoints"].iterdir()) == []
