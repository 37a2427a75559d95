"""Triggered runs in containers: a real server, worker and podman."""

import shlex
from collections.abc import Iterator

import pytest

from tests.elsewhere import started_by
from tests.podman import IMAGE, Podman
from tests.support.waiting import wait_until
from tests.system.test_prefect import PIPELINE, STATE_S, Prefect

pytestmark = pytest.mark.slow  # a server, a worker, containers


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    podman = Podman()
    yield podman
    podman.stop()


@pytest.fixture(scope="module")
def prefect(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A worker whose runs are containers."""
    command = ["python", "-m", "flows.commands.container", IMAGE, *podman.options]
    folder = tmp_path_factory.mktemp("podman")
    with started_by("container", shlex.join(command), folder, podman.environment) as prefect:
        yield prefect


def names(podman: Podman) -> list[str]:
    """Name the containers there are."""
    return podman.ask("ps", "--all", "--format", "{{.Names}}").stdout.split()


def training(prefect: Prefect, podman: Podman) -> str:
    """Have a run train in its container for long; return its id."""
    prefect.project.knobs({"train": {"ranks": 2, "sleep": 300}})
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    worktrees = prefect.project.root / ".slipway/worktrees"
    wait_until(lambda: list(worktrees.glob("*/ranks.json")), "the ranks run", STATE_S)
    assert names(podman) == [f"slipway-{run[:8]}"]
    return run


def test_a_run_is_a_container_and_ends_completed(prefect: Prefect, podman: Podman) -> None:
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    wait_until(lambda: names(podman) == [f"slipway-{run[:8]}"], "its container is there", STATE_S)
    assert prefect.ended(run)["type"] == "COMPLETED"
    wait_until(lambda: names(podman) == [], "nothing is left of it", STATE_S)


def test_a_cancelled_run_s_container_ends(prefect: Prefect, podman: Podman) -> None:
    prefect.project.touch("train", "changed")
    run = training(prefect, podman)
    prefect.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    wait_until(lambda: names(podman) == [], "the container is gone", STATE_S)
    wait_until(lambda: prefect.state(run)["type"] == "CANCELLED", "that is its state", STATE_S)


def test_a_killed_worker_takes_the_container_with_it(prefect: Prefect, podman: Podman) -> None:
    prefect.project.touch("train", "changed again")
    run = training(prefect, podman)
    prefect.kill_worker()
    wait_until(lambda: names(podman) == [], "the container is gone", STATE_S)
    ended = ("CRASHED", "FAILED")  # whichever the engine finds first: its end, or its lost output
    wait_until(lambda: prefect.state(run)["type"] in ended, "the server knows", STATE_S)
