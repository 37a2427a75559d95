"""How a Prefect server differs from prefect.yaml, in words."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.templating import find_placeholders

from flows.deployments.compare import Found, differences
from flows.deployments.declared import DeclaredDeployment, DeclaredPool, Project, read, read_pool
from slipway.errors import ConfigError

REPOSITORY = Path(__file__).parents[4]
NEEDED = frozenset({"dead runs"})


def deployment(name: str = "nightly", **fields: Any) -> DeclaredDeployment:
    whole: dict[str, Any] = {
        "name": name,
        "entrypoint": "flows/deliver.py:deliver",
        "parameters": {"pipeline": "flights"},
        "schedules": [{"cron": "0 3 * * *"}],
        "work_pool": {"name": "slipway"},
    }
    return DeclaredDeployment.model_validate(whole | fields)


def pool(command: str = "engine", **fields: Any) -> DeclaredPool:
    template = {
        "job_configuration": {"command": "{{ command }}"},
        "variables": {"properties": {"command": {"default": command}}},
    }
    whole = {"format": 1, "type": "process", "concurrency_limit": 1, "base_job_template": template}
    return DeclaredPool.model_validate(whole | fields)


PROJECT = Project((deployment(),), {"slipway": pool()})
RIGHT = Found(
    deployments={"deliver/nightly": deployment()},
    closed=frozenset({"deliver/nightly"}),
    paused=frozenset(),
    pools={"slipway": pool()},
    automations=NEEDED,
)


def test_a_server_that_holds_what_is_declared_does_not_differ() -> None:
    assert differences(PROJECT, RIGHT, NEEDED) == []


def test_an_empty_server_lacks_everything() -> None:
    nothing = Found({}, frozenset(), frozenset(), {}, frozenset())
    assert differences(PROJECT, nothing, NEEDED) == [
        "work pool slipway: missing",
        "deployment deliver/nightly: missing",
        "automation dead runs: missing or changed",
    ]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("parameters", {"pipeline": "other"}, "parameters is {'pipeline': 'other'}"),
        ("schedules", [], "schedules is []"),
        ("schedules", [{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}], "Europe/Berlin"),
        ("entrypoint", "flows/deliver.py:other", "entrypoint is flows/deliver.py:other"),
        ("work_pool", {"name": "gpu"}, "work pool is {'name': 'gpu'"),
        ("work_pool", {"name": "slipway", "job_variables": {"gpus": 2}}, "{'gpus': 2}"),
        ("schedules", [{"cron": "0 3 * * *", "active": False}], "'active': False"),
        ("pull", [{"git_clone": {}}], "pull is [{'git_clone': {}}], declared is []"),
        ("concurrency_limit", {"limit": 3}, "concurrency limit is {'limit': 3"),
        ("triggers", [{"expect": ["a"]}], "triggers is [{'expect': ['a']"),
    ],
)
def test_each_field_that_differs_is_told_with_both_values(
    field: str, value: Any, told: str
) -> None:
    there = deployment(**{field: value})
    found = replace(RIGHT, deployments={"deliver/nightly": there})
    (line,) = differences(PROJECT, found, NEEDED)
    assert line.startswith("deployment deliver/nightly: ")
    assert told in line
    assert "declared is" in line


def test_open_parameters_and_pauses_are_told() -> None:
    found = replace(RIGHT, closed=frozenset(), paused=frozenset({"work pool slipway"}))
    assert differences(PROJECT, found, NEEDED) == [
        "deployment deliver/nightly: accepts parameters that its flow does not have",
        "work pool slipway: paused",
    ]


def test_ours_declares_a_schedule_two_events_a_watch_and_runs_by_hand() -> None:
    project = read(REPOSITORY)
    assert [deployment.full_name for deployment in project.deployments] == [
        "deliver/nightly",
        "watch/watch",
        "deliver/on-new-data",
        "deliver/on-drift",
        "deliver/manual",
    ]
    assert list(project.pools) == ["slipway"]
    assert project.pools["slipway"].concurrency_limit == 1
    for each in project.deployments:
        first, second = ([*step] for step in each.pull)
        assert (*first, *second) == (
            "prefect.deployments.steps.run_shell_script",
            "prefect.deployments.steps.set_working_directory",
        )
        assert each.concurrency_limit is None, "Prefect keeps it by a lease, which runs die of"


def test_a_pool_is_told_by_the_innermost_values_that_differ() -> None:
    found = replace(
        RIGHT, pools={"slipway": pool("prefect flow-run execute", concurrency_limit=None)}
    )
    assert differences(PROJECT, found, NEEDED) == [
        "work pool slipway: concurrency limit is None, declared is 1",
        "work pool slipway: base job template variables properties command default is"
        " prefect flow-run execute, declared is engine",
    ]


def test_a_pool_without_a_file_is_refused_by_name(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "prefect.yaml", tmp_path)
    (tmp_path / "configs/pools").mkdir(parents=True)
    shutil.copy(REPOSITORY / "configs/pools/slurm.yaml", tmp_path / "configs/pools")
    told = r"'slipway' needs configs/pools/slipway\.yaml, which is not there; described are: slurm"
    with pytest.raises(ConfigError, match=told):
        read(tmp_path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("format: 2", "format: Input should be 1"),
        ("concurrency_limit: 0", "concurrency_limit: Input should be greater than or equal to 1"),
        ("limit: 1", "limit: Extra inputs are not permitted"),
    ],
)
def test_a_pool_file_is_read_strictly(tmp_path: Path, line: str, told: str) -> None:
    declared = yaml.safe_load((REPOSITORY / "configs/pools/slipway.yaml").read_text())
    (tmp_path / "configs/pools").mkdir(parents=True)
    declared |= yaml.safe_load(line)
    (tmp_path / "configs/pools/slipway.yaml").write_text(yaml.safe_dump(declared))
    with pytest.raises(ConfigError, match=re.escape(told)):
        read_pool(tmp_path, "slipway")


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "configs/pools").glob("*.yaml")), ids=lambda p: p.stem
)
def test_each_pool_in_git_names_no_variable_that_it_does_not_declare(file: Path) -> None:
    template = read_pool(REPOSITORY, file.stem).base_job_template
    used = {found.name for found in find_placeholders(template.job_configuration)}
    assert used == template.variables["properties"].keys()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("deployments: [", "while parsing"),
        ("deployments: nightly", "valid list"),
        ("deployments: [{name: nightly}]", "deployments.0.entrypoint: Field required"),
        ("{}", "declares no deployments"),
    ],
)
def test_what_cannot_be_read_is_refused_with_every_problem(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        read(tmp_path)


def test_a_project_without_prefect_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no prefect\.yaml"):
        read(tmp_path)
