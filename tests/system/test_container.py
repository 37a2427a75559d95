"""Triggered runs in containers: a real server, worker and podman."""

import shlex
import shutil
from collections.abc import Iterator

import pytest
import yaml

from tests.flow_project import REPOSITORY
from tests.podman import IMAGE, Podman
from tests.prefect_server import PrefectServer
from tests.support.ports import free_ports
from tests.support.waiting import wait_until
from tests.system.test_prefect import PIPELINE, STATE_S, Committed, Prefect

pytestmark = pytest.mark.slow  # a server, a worker, containers


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    podman = Podman()
    yield podman
    podman.stop()


class InContainers(Committed):
    """A project whose shells know the storage."""

    podman: Podman

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(**self.podman.environment, **more)


@pytest.fixture(scope="module")
def prefect(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A worker whose runs are containers."""
    folder = tmp_path_factory.mktemp("podman")
    InContainers.podman = podman
    project = InContainers(folder / "project", PIPELINE)
    project.fleet(free_ports(4))
    for name in ("flows", "tasks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, project.root / name, ignore=ignored)
    declared = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    command = ["python", "-m", "flows.commands.container", IMAGE, *podman.options]
    for deployment in declared["deployments"]:
        deployment["work_pool"]["job_variables"]["command"] = shlex.join(command)
    (project.root / "prefect.yaml").write_text(yaml.safe_dump(declared))
    project.commit()
    (folder / "server").mkdir()
    server = PrefectServer(folder / "server", project.environment())
    prefect = Prefect(project, server)
    try:
        prefect.run("slipway deployments apply")
        prefect.start_worker_and_wait()
        yield prefect
    finally:
        prefect.stop()
        server.stop()


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
