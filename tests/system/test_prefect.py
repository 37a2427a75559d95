"""The deployments of prefect.yaml on a real Prefect server, with a real worker."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import yaml

from tests.flow_project import REPOSITORY, STAGES, Project
from tests.prefect_server import PrefectServer
from tests.support.pace import limit
from tests.support.ports import free_ports
from tests.support.processes import alive, end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # a server, a worker and runs in processes of their own

START_S = 60
"""A command of Prefect's takes 4 s on a quiet machine."""

RUN_S = 120
"""A run that builds and releases, one on a schedule with the wait for its minute too."""

BUSY = 503

WORKER = "prefect worker start "

PIPELINE = "flights"
"""The documented commands name it."""


def documented() -> list[str]:
    """Return the commands in the comment of prefect.yaml, as one would copy them from there."""
    lines = (REPOSITORY / "prefect.yaml").read_text("utf-8").splitlines()
    return [line.removeprefix("#").strip() for line in lines if line.startswith("#   ")]


def documented_one(beginning: str) -> str:
    """Return the one documented command that begins so."""
    (found,) = (command for command in documented() if command.startswith(beginning))
    return found


class Prefect:
    """A worker and the deployments of one project, on a server."""

    def __init__(self, project: Project, server: PrefectServer) -> None:
        self.project = project
        self._http = httpx.Client(base_url=server.api, trust_env=False, timeout=30)
        self._environment = {
            "PREFECT_API_URL": server.api,  # what the first documented command is about
            "PREFECT_HOME": str(project.root / ".slipway/worker"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        self.worker: subprocess.Popen[bytes] | None = None
        self.said: dict[str, str] = {}
        """What each documented command said."""
        (project.root / ".slipway/worker").mkdir(parents=True)
        self._log = (project.root / "prefect.log").open("wb")

    def start(self) -> None:
        """Run what the comment of prefect.yaml says, to the letter; the server is there already."""
        for command in documented()[1:]:
            if command.startswith(WORKER):
                self.start_worker()
            else:
                self.said[command] = self.run(command)

    def start_worker(self) -> None:
        """Start the worker as documented; it goes on in the background."""
        command = f"exec {documented_one(WORKER)}"
        self.worker = subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.project.root,
            env=self.project.environment(**self._environment),
            stdout=self._log,
            stderr=self._log,
        )

    def run(self, command: str) -> str:
        """Run a command as a shell in the checkout would; return what it said."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.project.root,
            env=self.project.environment(**self._environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit(START_S),
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    @contextmanager
    def nightly(self, cron: str) -> Iterator[None]:
        """Deploy what prefect.yaml declares, with the nightly run at other times."""
        path = self.project.root / "prefect.yaml"
        declared = path.read_text("utf-8")
        changed = yaml.safe_load(declared)
        (nightly,) = (entry for entry in changed["deployments"] if entry["name"] == "nightly")
        nightly["schedules"][0]["cron"] = cron
        nightly["parameters"] = {"pipeline": PIPELINE, "build_only": True}
        path.write_text(yaml.safe_dump(changed), "utf-8")
        try:
            self.run(documented_one("prefect deploy "))
            yield
        finally:
            path.write_text(declared, "utf-8")
            self.run(documented_one("prefect deploy "))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", path, json=body)

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        """Ask again while the server's database is busy, as Prefect's own client does."""

        def answered() -> httpx.Response | None:
            answer = self._http.request(method, path, **more)
            return None if answer.status_code == BUSY else answer

        answer = wait_until(answered, "the server's database is free", START_S)
        assert answer is not None
        return answer.raise_for_status().json()

    def trigger(self, deployment: str, **parameters: Any) -> str:
        found = self.get(f"/deployments/name/deliver/{deployment}")
        run = self.post(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """Return the runs of a deployment that are over or due."""
        found: list[dict[str, Any]] = self.post(
            "/flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}, "limit": 200}
        )
        return found

    def state(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/flow_runs/{run}")["state"]
        return found

    def ended(self, run: str) -> dict[str, Any]:
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        wait_until(lambda: self.state(run)["type"] in final, "the run ended", RUN_S)
        return self.state(run)

    def stop(self) -> None:
        if self.worker:
            end(self.worker)
        self._http.close()
        self._log.close()


@pytest.fixture(scope="module")
def prefect(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: PrefectServer
) -> Iterator[Prefect]:
    """One worker for the module: it takes a while to start."""
    project = Project(tmp_path_factory.mktemp("prefect") / "project", PIPELINE)
    project.fleet(free_ports(4))
    for folder in ("flows", "tasks"):
        shutil.copytree(
            REPOSITORY / folder,
            project.root / folder,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(REPOSITORY / "prefect.yaml", project.root)
    prefect = Prefect(project, prefect_server)
    try:
        prefect.start()
        yield prefect
    finally:
        prefect.run("slipway fleet down local")
        prefect.stop()


def test_the_documented_commands_run_as_they_stand_in_prefect_yaml(prefect: Prefect) -> None:
    address = documented()[0]
    assert address.startswith("export PREFECT_API_URL="), "the one that everybody fills in"
    said = prefect.said[documented_one("prefect deployment run ")]
    run = re.search(r"UUID: (\S+)", said)
    assert run, said
    assert prefect.ended(run[1])["type"] == "COMPLETED"
    pool = prefect.get("/work_pools/slipway")
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 1)


def test_a_cron_starts_a_run_that_ends_completed(prefect: Prefect) -> None:
    def completed() -> bool:
        return any(
            run["auto_scheduled"] and run["state_type"] == "COMPLETED"
            for run in prefect.runs("nightly")
        )

    with prefect.nightly("* * * * *"):
        wait_until(completed, "the cron started a run, and it completed", RUN_S)


def test_the_manual_deployment_builds_with_one_task_per_stage_and_its_log(
    prefect: Prefect,
) -> None:
    for stage in STAGES:
        prefect.project.touch(stage, f"{stage}, changed")
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    assert prefect.ended(run)["type"] == "COMPLETED"
    flow_runs = {"flow_runs": {"id": {"any_": [run]}}}

    def seen() -> list[tuple[str, str]]:
        tasks = prefect.post("/task_runs/filter", flow_runs)
        return sorted((task["name"], task["state_type"]) for task in tasks)

    # events bring a task first; what it is called and became, a little later
    expected = [(f"{stage}@{PIPELINE}", "COMPLETED") for stage in sorted(STAGES)]
    wait_until(lambda: seen() == expected, f"the tasks {expected}", START_S)
    logs = prefect.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200})
    assert "this is train" in [log["message"] for log in logs]


def test_a_failed_stage_fails_the_run_with_the_words_of_the_stage(prefect: Prefect) -> None:
    prefect.project.touch("train", "changed")
    prefect.project.knobs({"train": {"fails": "the learning rate is silly"}})
    state = prefect.ended(prefect.trigger("manual", pipeline=PIPELINE, build_only=True))
    prefect.project.knobs({})
    assert state["type"] == "FAILED"
    assert state["message"].startswith("the learning rate is silly")


def test_cancelling_a_run_ends_the_ranks_of_its_stage(prefect: Prefect) -> None:
    prefect.project.touch("train", "changed again")
    prefect.project.knobs({"train": {"ranks": 2, "sleep": 300}})
    told = prefect.project.root / "ranks.json"
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    wait_until(told.exists, "the ranks run", RUN_S)
    ranks = json.loads(told.read_text())
    assert all(map(alive, ranks))
    prefect.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    wait_until(lambda: not any(map(alive, ranks)), "the ranks are gone", 30)
    prefect.project.knobs({})
    assert prefect.ended(run)["type"] == "CANCELLED"
    again = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
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
    runs = [prefect.trigger("manual", pipeline=PIPELINE, build_only=True) for _ in range(2)]
    assert [prefect.ended(run)["type"] for run in runs] == ["COMPLETED", "COMPLETED"]
    prefect.project.knobs({})
    spans = sorted(
        (found["start_time"], found["end_time"])
        for found in (prefect.get(f"/flow_runs/{run}") for run in runs)
    )
    assert spans[0][1] <= spans[1][0]
