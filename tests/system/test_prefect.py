"""The deployments of prefect.yaml on a real Prefect server, with a real worker."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.flow_project import REPOSITORY, Project, alive

START_S = 60
RUN_S = 120


class Prefect:
    """A server, a worker and the deployments of one project."""

    def __init__(self, project: Project, port: int) -> None:
        self.project = project
        self._url = f"http://127.0.0.1:{port}/api"
        self._http = httpx.Client(base_url=self._url, trust_env=False, timeout=30)
        self._environment = {
            "PREFECT_API_URL": self._url,
            "PREFECT_HOME": str(project.root / ".slipway/server"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        self._started: list[subprocess.Popen[bytes]] = []
        (project.root / ".slipway/server").mkdir(parents=True)
        self._port = port
        self._log = (project.root / "prefect.log").open("wb")

    def start(self) -> None:
        port = str(self._port)
        self._start("server", "start", "--host", "127.0.0.1", "--port", port, "--no-ui")
        until(self._healthy, START_S, "the server answers")
        self._start("worker", "start", "--pool", "slipway", "--type", "process")
        until(self._has_pool, START_S, "the worker made its pool")
        self.deploy()

    def deploy(self) -> None:
        """Deploy everything that prefect.yaml declares."""
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        subprocess.run(
            command,
            cwd=self.project.root,
            env=self.project.environment(**self._environment),
            check=True,
            stdout=self._log,
            stderr=self._log,
            timeout=START_S,
        )

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._http.post(path, json=body).raise_for_status().json()

    def get(self, path: str) -> Any:
        return self._http.get(path).raise_for_status().json()

    def trigger(self, deployment: str, **parameters: Any) -> str:
        found = self.get(f"/deployments/name/deliver/{deployment}")
        run = self.post(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def state(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/flow_runs/{run}")["state"]
        return found

    def ended(self, run: str) -> dict[str, Any]:
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        until(lambda: self.state(run)["type"] in final, RUN_S, "the run ended")
        return self.state(run)

    def stop(self) -> None:
        for process in reversed(self._started):
            process.terminate()
        for process in reversed(self._started):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._http.close()
        self._log.close()

    def _start(self, *arguments: str) -> None:
        self._started.append(
            subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                cwd=self.project.root,
                env=self.project.environment(**self._environment),
                stdout=self._log,
                stderr=self._log,
            )
        )

    def _healthy(self) -> bool:
        try:
            return self._http.get("/health").is_success
        except httpx.HTTPError:
            return False

    def _has_pool(self) -> bool:
        return self._http.get("/work_pools/slipway").is_success


def until(true: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """One server for the module: it takes half a minute to start."""
    project = Project(tmp_path_factory.mktemp("prefect") / "project")
    for folder in ("flows", "tasks"):
        shutil.copytree(
            REPOSITORY / folder,
            project.root / folder,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(REPOSITORY / "prefect.yaml", project.root)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    prefect = Prefect(project, port)
    try:
        prefect.start()
        yield prefect
    finally:
        prefect.stop()


def test_the_manual_deployment_builds_with_one_task_per_stage_and_its_log(
    prefect: Prefect,
) -> None:
    run = prefect.trigger("manual", pipeline="tiny", build_only=True)
    assert prefect.ended(run)["type"] == "COMPLETED"
    flow_runs = {"flow_runs": {"id": {"any_": [run]}}}
    until(lambda: len(prefect.post("/task_runs/filter", flow_runs)) == 6, 20, "tasks are seen")
    tasks = prefect.post("/task_runs/filter", flow_runs)
    assert {task["name"] for task in tasks} == {
        f"{stage}@tiny" for stage in ("ingest", "train", "evaluate", "export", "prove", "payload")
    }
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}
    logs = prefect.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200})
    assert "this is train" in [log["message"] for log in logs]


def test_a_failed_stage_fails_the_run_with_the_words_of_the_stage(prefect: Prefect) -> None:
    prefect.project.touch("train", "changed")
    prefect.project.knobs({"train": {"fails": "the learning rate is silly"}})
    state = prefect.ended(prefect.trigger("manual", pipeline="tiny", build_only=True))
    prefect.project.knobs({})
    assert state["type"] == "FAILED"
    assert state["message"].startswith("the learning rate is silly")


def test_cancelling_a_run_ends_the_ranks_of_its_stage(prefect: Prefect) -> None:
    prefect.project.touch("train", "changed again")
    prefect.project.knobs({"train": {"ranks": 2, "sleep": 300}})
    told = prefect.project.root / "ranks.json"
    run = prefect.trigger("manual", pipeline="tiny", build_only=True)
    until(told.exists, RUN_S, "the ranks run")
    time.sleep(0.2)
    ranks = json.loads(told.read_text())
    assert all(map(alive, ranks))
    prefect.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    until(lambda: not any(map(alive, ranks)), 30, "the ranks are gone")
    prefect.project.knobs({})
    assert prefect.ended(run)["type"] == "CANCELLED"
    again = prefect.trigger("manual", pipeline="tiny", build_only=True)
    assert prefect.ended(again)["type"] == "COMPLETED"


def test_both_deployments_let_one_run_in_and_queue_the_others(prefect: Prefect) -> None:
    for name in ("nightly", "manual"):
        found = prefect.get(f"/deployments/name/deliver/{name}")
        assert found["global_concurrency_limit"]["limit"] == 1
        assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    nightly = prefect.get("/deployments/name/deliver/nightly")
    assert [entry["schedule"]["cron"] for entry in nightly["schedules"]] == ["0 3 * * *"]


def test_a_run_triggered_while_another_runs_takes_its_turn(prefect: Prefect) -> None:
    prefect.project.touch("evaluate", "slow")
    prefect.project.knobs({"evaluate": {"sleep": 6}})
    runs = [prefect.trigger("manual", pipeline="tiny", build_only=True) for _ in range(2)]
    assert [prefect.ended(run)["type"] for run in runs] == ["COMPLETED", "COMPLETED"]
    prefect.project.knobs({})
    spans = sorted(
        (found["start_time"], found["end_time"])
        for found in (prefect.get(f"/flow_runs/{run}") for run in runs)
    )
    assert spans[0][1] <= spans[1][0]
