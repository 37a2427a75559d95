"""What podman is told of a run that is a container."""

import subprocess
from pathlib import Path

import pytest

from flows.commands import container
from flows.environment import ELSEWHERE, WORKER, require_hosts_here
from slipway.errors import SlipwayError
from slipway.gpu.slots import SLOTS, Slots

ENV = {
    "PREFECT_API_URL": "http://127.0.0.1:4200/api",
    "PREFECT__FLOW_RUN_ID": "1",
    "PREFECT__CONTROL_PORT": "5",
    "PREFECT__CONTROL_TOKEN": "secret",
    "SLIPWAY_PROJECT": "/p",
    WORKER: "77",
    "AWS_SECRET_ACCESS_KEY": "hush",
    "HOME": "/root",
    "PATH": "/bin",
}


ASKED = ["registry.example.org/ml:1", "--env=PREFECT_API_URL=http://other", "--device=gpu"]


@pytest.fixture
def told(tmp_path: Path) -> list[str]:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return container.arguments("slipway-1", tmp_path, ASKED, ENV)


def test_variables_go_along_by_name_and_those_of_the_workers_machine_do_not(told: list[str]):
    names = {each.removeprefix("--env=") for each in told if each.startswith("--env=")}
    assert {"PREFECT_API_URL", "PREFECT__FLOW_RUN_ID", "SLIPWAY_PROJECT"} <= names
    assert names.isdisjoint({WORKER, "PREFECT__CONTROL_PORT", "PREFECT__CONTROL_TOKEN", "HOME"})
    assert "hush" not in " ".join(told), "a secret is no word of a command line"


def test_what_the_user_asks_for_comes_after_what_is_given_anyway(told: list[str]):
    ours = told.index("--env=PREFECT_API_URL")
    assert ours < told.index("--env=PREFECT_API_URL=http://other") < told.index("--device=gpu")
    assert told[-4:] == ["registry.example.org/ml:1", "python", "-m", "flows.commands.engine"]


def test_the_project_is_where_it_is_outside(told: list[str], tmp_path: Path):
    assert f"--volume={tmp_path}:{tmp_path}" in told
    assert f"--workdir={tmp_path}" in told


def test_all_of_the_repository_is_there_and_this_users_turns_on_the_gpus(tmp_path: Path):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    project = tmp_path / "teams/ours"
    project.mkdir(parents=True)
    told = container.arguments("slipway-1", project, ASKED, ENV)
    assert f"--volume={tmp_path}:{tmp_path}" in told, "its .git is above the project"
    slots = Slots.here().folder
    assert {f"--volume={slots}:{slots}", f"--env={SLOTS}={slots}"} <= set(told)


def test_what_waits_for_a_gpu_in_a_container_meets_those_outside(tmp_path, monkeypatch):
    monkeypatch.setenv(SLOTS, str(tmp_path))
    assert Slots.here().folder == tmp_path


def test_a_run_in_a_container_builds_and_does_not_release():
    env = {ELSEWHERE: "in a container"}
    with pytest.raises(
        SlipwayError, match=r"works in a container.*`build_only: true`.*slipway run p"
    ):
        require_hosts_here("local", "p", env)
    require_hosts_here("local", "p", {})


@pytest.mark.parametrize("asked", [[], ["--device=gpu"]])
def test_an_image_must_be_named_first(asked: list[str], monkeypatch, capsys):
    for name, value in {"PREFECT__FLOW_RUN_ID": "1", "SLIPWAY_PROJECT": "/p"}.items():
        monkeypatch.setenv(name, value)
    assert container.main(asked) == 2
    assert "name the image first" in capsys.readouterr().err


def test_nobody_starts_it_by_hand(monkeypatch, capsys):
    monkeypatch.delenv("PREFECT__FLOW_RUN_ID", raising=False)
    assert container.main(["image"]) == 2
    assert "`slipway worker` has this started" in capsys.readouterr().err
