"""How a Prefect server differs from prefect.yaml, in words."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.deployments.compare import Found, differences
from flows.deployments.declared import DeclaredDeployment, Project, read
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


PROJECT = Project((deployment(),))
RIGHT = Found(
    deployments={"deliver/nightly": deployment()},
    closed=frozenset({"deliver/nightly"}),
    paused=frozenset(),
    pools=frozenset({"slipway"}),
    automations=NEEDED,
)


def test_a_server_that_holds_what_is_declared_does_not_differ() -> None:
    assert differences(PROJECT, RIGHT, NEEDED) == []


def test_an_empty_server_lacks_everything() -> None:
    nothing = Found({}, frozenset(), frozenset(), frozenset(), frozenset())
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
        ("work_pool", {"name": "gpu"}, "work pool is {'name': 'gpu'}"),
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
    assert project.pools == ["slipway"]


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
