"""The deployments of prefect.yaml on a real Prefect server, with a real worker."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.alive import pid_files
from flows.alive.reconcile import work_pools
from flows.dag import workspace
from flows.deployments.server import DEAD, SILENT_S
from flows.environment import FLOW_RUN, HEARTBEAT_S
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

WAITING = ("Late", "AwaitingConcurrencySlot")
"""Names of the state of a run that another one keeps from starting."""

GONE_S, STATE_S = 2.0, 30.0
"""When nothing of a stopped run is left but the flow; when the server knows, three times 10 s."""

TAKEN_S = 20.0
"""A third of the minute that it may take: limits are three times what is stated, or more."""

WORKER = "slipway worker"

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


class Committed(Project):
    """A project whose every change is committed: a scheduled run sees nothing else."""

    def touch(self, stage: str, text: str) -> None:
        super().touch(stage, text)
        self.commit()

    def knobs(self, knobs: dict[str, Any]) -> None:
        super().knobs(knobs)
        for path in self.ranks_files():
            path.unlink()
        self.commit()

    def ranks_files(self) -> list[Path]:
        """Find where the ranks of a stage were written down: here, or in a run's worktree."""
        return [*self.root.glob("ranks.json"), *self.root.glob(".slipway/worktrees/*/ranks.json")]

    def commit(self) -> None:
        if (self.root / ".git").exists():
            self.git("add", ".")
            self.git("commit", "-q", "--allow-empty", "-m", "Change")

    def git(self, *arguments: str) -> str:
        own = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(self.root), *own, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Prefect:
    """A worker and the deployments of one project, on a server."""

    def __init__(self, project: Committed, server: PrefectServer) -> None:
        self.project = project
        self._http = httpx.Client(base_url=server.api, trust_env=False, timeout=limit(30))
        self._environment = {
            "PREFECT_API_URL": server.api,  # what the first documented command is about
            "PREFECT_HOME": str(project.root / ".slipway/worker"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        self.worker: subprocess.Popen[bytes] | None = None
        self.first: dict[str, Any] = {}
        """How the run ended that the last of the documented commands started."""
        (project.root / ".slipway/worker").mkdir(parents=True)
        self._log = (project.root / "prefect.log").open("wb")

    def start_all(self) -> None:
        """Run what the comment of prefect.yaml says, to the letter; the server is there already."""
        for command in documented()[1:]:
            if command.startswith(WORKER):
                self.start_worker()
            else:
                said = self.run(command)
        run = re.search(r"UUID: (\S+)", said)
        assert run, said
        self.first = self.ended(run[1])
        self._enable_automation(False)

    def start(self, command: str) -> "subprocess.Popen[bytes]":
        """Start a command as a shell in the checkout would; its words go to the log."""
        return subprocess.Popen(
            ["bash", "-c", f"trap '' INT; exec {command}"],  # as a script does for its `&`
            cwd=self.project.root,
            env=self.project.environment(**self._environment),
            stdout=self._log,
            stderr=self._log,
        )

    def start_worker(self) -> None:
        """Start the worker as documented; it goes on in the background."""
        self.worker = self.start(documented_one(WORKER))

    def start_worker_and_wait(self) -> None:
        """Start the worker and wait until it is ready to take runs."""
        began = datetime.now(UTC)
        self.start_worker()
        wait_until(lambda: self._beat() > began, "the worker is ready", START_S)

    def kill_worker(self) -> None:
        """End the worker, and not what it started, without a word."""
        assert self.worker is not None
        self.worker.kill()
        self.worker.wait()

    def kill_worker_and_flow(self, run: str) -> int:
        """End both so that neither sees the other die; return the flow's process."""
        assert self.worker is not None
        flow = pid_files.read(self.project.root)[run].content.process.pid
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in (flow, self.worker.pid):
                os.kill(pid, number)
        self.worker.wait()
        return flow

    def _beat(self) -> datetime:
        """Return when a worker was last heard of."""
        (pool,) = work_pools(self.project.root)
        workers = self.post(f"/work_pools/{pool}/workers/filter", {})
        beats = [datetime.fromisoformat(w["last_heartbeat_time"]) for w in workers]
        return max(beats, default=datetime.min.replace(tzinfo=UTC))

    def run(self, command: str, code: int = 0) -> str:
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
        assert done.returncode == code, f"{command}\n{done.stdout}"
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
            self.run(documented_one("slipway deployments apply"))
            yield
        finally:
            path.write_text(declared, "utf-8")
            self.run(documented_one("slipway deployments apply"))
            self._enable_automation(False)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", path, json=body)

    def patch(self, path: str, body: dict[str, Any]) -> None:
        self._ask("PATCH", path, json=body)

    @contextmanager
    def automation(self) -> Iterator[None]:
        """Let the server mark dead runs; in other tests it may not be ahead of the worker."""
        self._enable_automation(True)
        try:
            yield
        finally:
            self._enable_automation(False)

    def _enable_automation(self, enabled: bool) -> None:
        (found,) = (a for a in self.post("/automations/filter", {}) if a["name"] == DEAD)
        self.patch(f"/automations/{found['id']}", {"enabled": enabled})

    def delete(self, path: str) -> None:
        self._ask("DELETE", path)

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        """Ask again while the server's database is busy, as Prefect's own client does."""

        def answered() -> httpx.Response | None:
            answer = self._http.request(method, path, **more)
            return None if answer.status_code == BUSY else answer

        answer = wait_until(answered, "the server's database is free", START_S)
        assert answer is not None
        return answer.raise_for_status().json() if answer.content else None

    def trigger(self, deployment: str, **parameters: Any) -> str:
        flow = "watch" if deployment == "watch" else "deliver"
        found = self.get(f"/deployments/name/{flow}/{deployment}")
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
        for held in pid_files.read(self.project.root).values():
            if held.locked:  # of a test that failed after it had killed the worker
                os.kill(held.content.process.pid, signal.SIGKILL)
        self._http.close()
        self._log.close()


@pytest.fixture(scope="module")
def prefect(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: PrefectServer
) -> Iterator[Prefect]:
    """One worker for the module: it takes a while to start."""
    project = Committed(tmp_path_factory.mktemp("prefect") / "project", PIPELINE)
    project.fleet(free_ports(4))
    project.take_code()
    project.commit()
    prefect = Prefect(project, prefect_server)
    try:
        prefect.start_all()
        yield prefect
    finally:
        prefect.stop()
        prefect.run("slipway fleet down local")


def test_the_documented_commands_run_as_they_stand_in_prefect_yaml(prefect: Prefect) -> None:
    address = documented()[0]
    assert address.startswith("export PREFECT_API_URL="), "the one that everybody fills in"
    assert documented()[-1].startswith("prefect deployment run "), "what the others lead to"
    assert prefect.first["type"] == "COMPLETED"
    pool = prefect.get("/work_pools/slipway")
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 1)


def test_a_run_leaves_its_gates_and_links_on_the_servers_pages(prefect: Prefect) -> None:
    keys = [f"slipway-{PIPELINE}-gates", f"slipway-{PIPELINE}-run"]
    found = prefect.post("/artifacts/filter", {"artifacts": {"key": {"any_": keys}}})
    left = {artifact["key"]: artifact for artifact in found}
    assert sorted(left) == keys
    assert '"gate": "parity"' in left[keys[0]]["data"]
    assert "report.html" in left[keys[1]]["data"]
    assert all(artifact["flow_run_id"] for artifact in found)


def test_a_run_works_from_the_commit_and_leaves_what_somebody_edits(prefect: Prefect) -> None:
    project = prefect.project
    (project.root / "inputs/train.txt").write_text("half-finished")
    for module in ("flows/deliver.py", "flows/publish.py", "tasks/names.py"):
        (project.root / module).write_text("raise SystemExit('half-finished')")
    before = project.git("status", "--porcelain")
    try:
        run = prefect.trigger("manual", pipeline=PIPELINE)
        assert prefect.ended(run)["type"] == "COMPLETED"
        assert project.git("status", "--porcelain") == before
    finally:
        project.git("checkout", "-q", ".")
    record = project.run_json()
    assert record["git"]["dirty"] is False
    assert (
        project.git("merge-base", "slipway/main", record["git"]["commit"])
        == (record["git"]["commit"])
    )
    assert f"payload@{PIPELINE}" in project.git("show", f"{record['git']['commit']}:dvc.lock")
    assert not list(project.root.glob(".slipway/worktrees/*"))
    assert project.git("branch", "--list", "slipway/run-*") == ""


def test_a_cron_starts_a_run_that_ends_completed(prefect: Prefect) -> None:
    def completed() -> bool:
        return any(
            run["auto_scheduled"] and run["state_type"] == "COMPLETED"
            for run in prefect.runs("nightly")
        )

    with prefect.nightly("* * * * *"):
        wait_until(completed, "the cron started a run, and it completed", RUN_S)
    assert prefect.project.run_json()["started_by"]["kind"] == "schedule"


def test_a_worker_that_a_script_has_started_ends_when_it_is_told_to(prefect: Prefect) -> None:
    assert prefect.worker is not None
    ignored = Path(f"/proc/{prefect.worker.pid}/status").read_text().partition("SigIgn:")[2]
    assert not int(ignored.split()[0], 16) & 1 << (signal.SIGINT - 1)


def test_the_manual_deployment_builds_with_one_task_per_stage_and_its_log(
    prefect: Prefect,
) -> None:
    for stage in STAGES:
        prefect.project.touch(stage, f"{stage}, changed")
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    assert prefect.ended(run)["type"] == "COMPLETED"
    started_by = prefect.project.run_json()["started_by"]
    assert started_by == {"kind": "trigger", "who": f"deployment manual, flow run {run}"}
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
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    ranks = running_ranks(prefect)
    prefect.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    wait_until(lambda: not any(map(alive, ranks)), "the ranks are gone", STATE_S)
    wait_until(lambda: prefect.state(run)["type"] == "CANCELLED", "that is its state", STATE_S)
    prefect.project.knobs({})
    again = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    assert prefect.ended(again)["type"] == "COMPLETED"


def test_no_run_ends_because_the_server_has_lost_the_lease_on_its_place(prefect: Prefect) -> None:
    for name in ("nightly", "manual"):
        found = prefect.get(f"/deployments/name/deliver/{name}")
        assert found["global_concurrency_limit"] is None, "Prefect keeps such a limit by a lease"
    nightly = prefect.get("/deployments/name/deliver/nightly")
    assert [entry["schedule"]["cron"] for entry in nightly["schedules"]] == ["0 3 * * *"]


def test_triggers_that_come_before_a_run_begins_give_one_run(prefect: Prefect) -> None:
    runs = [prefect.trigger("manual", pipeline=PIPELINE, build_only=True) for _ in range(3)]
    ends = [prefect.ended(run) for run in runs]
    assert sorted(end["name"] for end in ends) == ["Completed", "Covered", "Covered"]
    (covered, _) = (end for end in ends if end["name"] == "Covered")
    assert "began after this one was asked for, and does it" in covered["message"]


def test_a_trigger_with_other_parameters_is_not_covered(prefect: Prefect) -> None:
    runs = [prefect.trigger("manual", pipeline=PIPELINE, build_only=b) for b in (True, False)]
    assert [prefect.ended(run)["type"] for run in runs] == ["COMPLETED", "COMPLETED"]


def test_a_run_triggered_while_another_runs_takes_its_turn(prefect: Prefect) -> None:
    prefect.project.touch("train", "slow")
    prefect.project.knobs({"train": {"ranks": 1, "sleep": 6}})
    runs = [prefect.trigger("manual", pipeline=PIPELINE, build_only=True)]
    running_ranks(prefect)
    prefect.project.knobs({})
    runs.append(prefect.trigger("manual", pipeline=PIPELINE, build_only=True))
    assert [prefect.ended(run)["type"] for run in runs] == ["COMPLETED", "COMPLETED"]
    spans = sorted(
        (found["start_time"], found["end_time"])
        for found in (prefect.get(f"/flow_runs/{run}") for run in runs)
    )
    assert spans[0][1] <= spans[1][0]


def test_outside_of_its_window_a_run_is_put_off_until_it_opens(prefect: Prefect) -> None:
    opens = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    closes = opens + timedelta(hours=1)

    def waiting() -> list[dict[str, Any]]:
        return [run for run in prefect.runs("manual") if run["state"]["type"] == "SCHEDULED"]

    path = prefect.project.root / f"configs/{PIPELINE}.yaml"
    before = path.read_text("utf-8")
    path.write_text(f'{before}hours: {{from: "{opens:%X}", to: "{closes:%X}"}}\n', "utf-8")
    prefect.project.commit()
    try:
        runs = [prefect.trigger("manual", pipeline=PIPELINE, build_only=True) for _ in range(2)]
        states = [prefect.ended(run) for run in runs]
        (due,) = waiting()
        # somebody cancels it; who asks again then is not taken for answered
        prefect.post(f"/flow_runs/{due['id']}/set_state", {"state": {"type": "CANCELLED"}})
        prefect.ended(prefect.trigger("manual", pipeline=PIPELINE, build_only=True))
        (again,) = waiting()
    finally:
        path.write_text(before, "utf-8")
        prefect.project.commit()
    assert {(state["type"], state["name"]) for state in states} == {("CANCELLED", "PutOff")}
    assert f"put off until {opens:%Y-%m-%d %H:%M} UTC" in states[0]["message"]
    for run in (due, again):
        assert datetime.fromisoformat(run["expected_start_time"]) == opens
    prefect.delete(f"/flow_runs/{again['id']}")


def test_an_unknown_parameter_is_refused_when_a_run_is_asked_for(prefect: Prefect) -> None:
    found = prefect.get("/deployments/name/deliver/manual")
    path = f"/deployments/{found['id']}/create_flow_run"
    with pytest.raises(httpx.HTTPStatusError) as refused:
        prefect.post(path, {"parameters": {"pipeline": PIPELINE, "fleat": "local"}})
    assert refused.value.response.is_client_error
    assert "fleat" in refused.value.response.text


def test_a_server_that_was_changed_by_hand_is_told_of_and_set_right(prefect: Prefect) -> None:
    right = "holds what prefect.yaml declares"
    with prefect.automation():
        assert right in prefect.run("slipway deployments check")
        found = prefect.get("/deployments/name/deliver/manual")
        prefect.patch(f"/deployments/{found['id']}", {"parameters": {"pipeline": "other"}})
        told = prefect.run("slipway deployments check", code=1)
        assert "deployment deliver/manual: parameters is {'pipeline': 'other'}" in told
        assert "still" not in prefect.run("slipway deployments apply")
        assert right in prefect.run("slipway deployments check")


def test_new_data_starts_a_run_that_takes_it_in(prefect: Prefect) -> None:
    def delivered() -> bool:
        return any(run["state_type"] == "COMPLETED" for run in prefect.runs("on-new-data"))

    source = prefect.project.root / "table.csv"
    source.write_text(source.read_text() + "3,4\n")
    assert prefect.ended(prefect.trigger("watch", pipeline=PIPELINE))["type"] == "COMPLETED"
    wait_until(delivered, "the event started a run, and it completed", RUN_S)
    pin = prefect.project.git("show", f"slipway/main:data/{PIPELINE}/sources.lock")
    assert f'"size_bytes": {source.stat().st_size}' in pin
    before = len(prefect.runs("on-new-data"))
    assert prefect.ended(prefect.trigger("watch", pipeline=PIPELINE))["type"] == "COMPLETED"
    assert len(prefect.runs("on-new-data")) == before, "what was taken in is not new"


def test_a_run_whose_machine_is_gone_is_crashed_by_the_server_and_a_silent_one_is_not(
    prefect: Prefect,
) -> None:
    prefect.project.touch("train", "its machine goes")
    prefect.project.knobs({"train": {"ranks": 1, "sleep": 3000}})
    with prefect.automation():
        run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
        running_ranks(prefect)
        time.sleep(SILENT_S + HEARTBEAT_S)  # its stage says nothing; what is waited for is no event
        assert prefect.state(run)["type"] == "RUNNING"
        prefect.kill_worker_and_flow(run)
        gone = "the server noticed"
        wait_until(lambda: prefect.state(run)["type"] == "CRASHED", gone, SILENT_S + START_S)
    assert f"no heartbeat for {SILENT_S} s" in prefect.state(run)["message"]
    prefect.project.knobs({})
    prefect.start_worker_and_wait()


def test_a_run_ends_with_its_worker_and_the_next_worker_goes_on(prefect: Prefect) -> None:
    prefect.project.touch("train", "its worker is killed")
    prefect.project.knobs({"train": {"ranks": 2, "sleep": 3000}})
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    ranks = running_ranks(prefect)
    flow = pid_files.read(prefect.project.root)[run].content.process.pid
    prefect.kill_worker()
    wait_until(lambda: not any(map(alive, ranks)), "the ranks are gone", GONE_S)
    wait_until(lambda: prefect.state(run)["type"] == "CRASHED", "the server is told", STATE_S)
    wait_until(lambda: not alive(flow), "the flow's process has ended", STATE_S)
    prefect.project.knobs({})
    prefect.start_worker_and_wait()
    again = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    assert prefect.ended(again)["type"] == "COMPLETED"


def test_a_run_that_was_killed_with_its_worker_makes_way_for_the_late_one(
    prefect: Prefect,
) -> None:
    prefect.project.touch("train", "killed")
    prefect.project.knobs({"train": {"ranks": 2, "sleep": 3000}})
    killed = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    ranks = running_ranks(prefect)
    late = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    wait_until(lambda: prefect.state(late)["name"] in WAITING, "the next run is late", RUN_S)

    flow = prefect.kill_worker_and_flow(killed)
    wait_until(lambda: not any(map(alive, ranks)), "the ranks are gone", START_S)
    assert prefect.state(killed)["type"] == "RUNNING"
    prefect.project.knobs({})
    prefect.start_worker_and_wait()
    taken = "the late run is taken"
    wait_until(lambda: prefect.state(late)["type"] != "SCHEDULED", taken, TAKEN_S)
    assert prefect.state(killed)["type"] == "CRASHED"
    assert f"its process {flow} is gone" in prefect.state(killed)["message"]
    assert prefect.ended(late)["type"] == "COMPLETED"
    wait_until(lambda: not pid_files.read(prefect.project.root), "no pid file is left", START_S)


def test_doctor_clears_a_run_whose_worker_was_killed_before_it_began(prefect: Prefect) -> None:
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    wait_until(lambda: prefect.state(run)["type"] == "PENDING", "the worker took the run", RUN_S)
    prefect.kill_worker()
    wait_until(lambda: not kill_what_was_started_for(run), "what runs it is gone", START_S)
    assert prefect.state(run)["type"] == "PENDING"
    late = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    told = prefect.run("slipway doctor --fix --dry-run")
    assert f"({run}) is pending, but the worker that took it is gone" in told
    assert prefect.state(run)["type"] == "PENDING"
    prefect.run("slipway doctor --fix")
    assert prefect.state(run)["type"] == "CRASHED"
    prefect.start_worker_and_wait()
    assert prefect.ended(late)["type"] == "COMPLETED"


def test_a_run_from_the_desk_clears_what_died_before_it(prefect: Prefect) -> None:
    prefect.project.touch("train", "killed at the desk")
    prefect.project.knobs({"train": {"ranks": 2, "sleep": 3000}})
    desk = prefect.start(f"slipway build {PIPELINE}")
    ranks = running_ranks(prefect)
    ((killed, held),) = pid_files.read(prefect.project.root).items()
    os.kill(held.content.process.pid, signal.SIGKILL)
    assert desk.wait(START_S) == 128 + signal.SIGKILL
    wait_until(lambda: not any(map(alive, ranks)), "the ranks are gone", START_S)
    prefect.project.knobs({})
    told = prefect.run(f"slipway build {PIPELINE}")
    assert f"({killed}) is running, but its process" in told
    assert prefect.state(killed)["type"] == "CRASHED"


def running_ranks(prefect: Prefect) -> list[int]:
    """Wait until the ranks of the training stage run."""
    wait_until(lambda: bool(prefect.project.ranks_files()), "the ranks run", RUN_S)
    (told,) = prefect.project.ranks_files()
    ranks: list[int] = json.loads(told.read_text())
    assert all(map(alive, ranks))
    return ranks


def kill_what_was_started_for(run: str) -> list[int]:
    """Kill the processes that a worker started for a run; return those that there were."""
    everyone = workspace.values_in_environments(FLOW_RUN).items()
    found = [pid for pid, started_for in everyone if started_for == run and alive(pid)]
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found
