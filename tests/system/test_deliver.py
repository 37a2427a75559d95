"""The whole line on a small project: real DVC, real Prefect, real hosts."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from slipway.processes.supervise import descendants
from tests.flow_project import STAGES, Ended, Project
from tests.prefect_server import PrefectServer
from tests.support.pace import limit, within
from tests.support.ports import free_ports
from tests.support.processes import alive
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # dozens of runs that import Prefect and DVC

GONE_S = 2.0
"""Ranks are gone in less: the supervisor's grace is one."""

RANKS_S = 60.0
"""From the start of a run to a stage that runs, past the API that a run starts for itself."""

TIMEOUT_S = 15
"""DVC and a stage of the small project have begun by then, or the machine is very slow."""

ALL = [f"{stage}@tiny" for stage in STAGES]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline was built once; copied by the tests that change it."""
    project = Project(tmp_path_factory.mktemp("built") / "project")
    first = project.deliver("--build-only")
    assert first.code == 0, first.err
    return project


@pytest.fixture
def project(built: Project) -> Iterator[Project]:
    """The built project; changed inputs are put back and built again by whoever is next."""
    yield built
    built.knobs({})


@pytest.fixture
def server(project: Project, prefect_server: PrefectServer) -> Iterator[None]:
    """Let a test's runs use a server that is there, where it is not about an API of their own."""
    project.api = prefect_server.api
    yield
    project.api = None


def states(project: Project) -> dict[str, str]:
    return {entry["stage"]: entry["state"] for entry in project.run_json()["stages"]}


def running_ranks(project: Project) -> list[int]:
    """Wait until the ranks of the training stage run."""
    told = project.root / "ranks.json"
    wait_until(told.exists, "the ranks run", RANKS_S)
    ranks: list[int] = json.loads(told.read_text())
    assert all(map(alive, ranks))
    return ranks


def assert_gone(pids: list[int]) -> None:
    wait_until(lambda: not any(map(alive, pids)), "the ranks are gone", GONE_S)


def test_a_run_leaves_a_record_a_report_and_the_log_of_every_stage(built: Project) -> None:
    run = built.run_json()
    assert run["state"] == "completed"
    assert re.fullmatch(r"[0-9a-f]{64}", run["version"])
    assert [gate["verdict"] for gate in run["gates"]] == ["pass"]
    folder = built.root / ".slipway/runs" / run["run"]
    assert (folder / "report.html").is_file()
    assert "this is train" in (folder / "logs/train@tiny.log").read_text()


def test_a_second_run_with_nothing_changed_skips_every_stage_in_seconds(project: Project) -> None:
    with within(30):
        second = project.deliver("--build-only")
    assert second.code == 0
    assert states(project) == dict.fromkeys(ALL, "skipped")
    assert "· train unchanged" in second.err
    assert project.run_json()["version"] in second.out


@pytest.mark.usefixtures("server")
def test_what_reads_from_a_changed_stage_runs_and_nothing_before_it(project: Project) -> None:
    project.touch("export", "another text")
    assert project.deliver("--build-only").code == 0
    assert states(project) == dict.fromkeys(ALL, "skipped") | dict.fromkeys(
        ["export@tiny", "prove@tiny", "payload@tiny"], "ran"
    )


@pytest.mark.usefixtures("server")
def test_a_stage_whose_inputs_turn_out_the_same_is_left_alone(project: Project) -> None:
    """DVC still decides: this also notices when its words for it change."""
    same = (project.root / "inputs/train.txt").read_text()
    project.touch("train", "changed, but")
    project.knobs({"train": {"writes": same}})
    ran = project.deliver("--build-only")
    assert states(project) == dict.fromkeys(ALL, "skipped") | {"train@tiny": "ran"}
    assert "· export unchanged" in ran.err


@pytest.mark.usefixtures("server")
def test_what_ran_on_these_inputs_before_comes_from_the_cache(project: Project) -> None:
    shutil.rmtree(project.root / "models/tiny/evaluation")
    ran = project.deliver("--build-only")
    assert states(project)["evaluate@tiny"] == "skipped"
    assert re.search(r"✓ evaluate [\d.]+ s, from the cache", ran.err)
    assert (project.root / "models/tiny/evaluation/SHA256SUMS").is_file()


@pytest.mark.usefixtures("server")
def test_new_data_runs_everything_and_dvc_repro_gives_the_same_dvc_lock_and_version(
    project: Project,
) -> None:
    (project.root / "table.csv").write_text("a,b\n1,2\n3,4\n")
    for stage in STAGES:
        project.touch(stage, f"{stage} for both")
    # so it ends later than where DVC lists it
    project.knobs({"evaluate": {"meets": "payload"}, "payload": {"meets": "evaluate"}})
    (project.root / "dvc.lock").unlink()
    ran = project.deliver("--build-only")
    assert "data/tiny/sources.lock is updated" in ran.err
    assert states(project) == dict.fromkeys(ALL, "ran")
    lock, version = (project.root / "dvc.lock").read_bytes(), project.run_json()["version"]
    for path in (".dvc/cache", "models", "data/tiny/raw"):
        shutil.rmtree(project.root / path)
    (project.root / "dvc.lock").unlink()
    assert project.dvc("repro").code == 0
    assert (project.root / "dvc.lock").read_bytes() == lock
    assert project.deliver("--build-only").code == 0
    assert states(project) == dict.fromkeys(ALL, "skipped")
    assert project.run_json()["version"] == version


@pytest.mark.usefixtures("server")
def test_branches_run_side_by_side_and_show_their_progress(project: Project) -> None:
    project.touch("train", "side by side")
    project.knobs({"evaluate": {"meets": "export"}, "export": {"meets": "evaluate", "steps": 40}})
    ran = project.deliver("--build-only")
    assert ran.code == 0
    assert "  export 20/40  loss 0.5000" in ran.err


def test_a_finished_stage_waits_for_dvcs_lock_and_its_work_is_not_lost(project: Project) -> None:
    project.touch("evaluate", "while somebody else holds the lock")
    project.knobs({"evaluate": {"ranks": 0, "sleep": 2}})
    flow = project.start("--build-only")
    wait_until((project.root / "ranks.json").exists, "the stage runs", RANKS_S)
    with (project.root / ".dvc/tmp/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        time.sleep(7)  # DVC by itself gives up 3 s after the stage has ended
    flow.communicate(timeout=limit(60))
    assert flow.returncode == 0
    assert states(project)["evaluate@tiny"] == "ran"


def seconds(iso: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(iso).timestamp()


@pytest.mark.usefixtures("server")
def test_a_failed_stage_ends_the_run_with_its_own_message(project: Project) -> None:
    project.touch("train", "fails")
    project.knobs({"train": {"fails": "the learning rate is silly\n  got 12"}})
    failed = project.deliver("--build-only")
    assert failed.code == 1
    assert "slipway: the learning rate is silly\n  got 12\n" in failed.err
    assert "Traceback" not in failed.err
    assert failed.out == ""
    assert states(project) == {
        "ingest@tiny": "skipped",
        "train@tiny": "failed",
        **dict.fromkeys(ALL[2:], "not run"),
    }
    run = project.run_json()
    assert run["state"] == "failed"
    assert run["error"].startswith("the learning rate is silly")
    assert (project.root / ".slipway/runs/latest/report.html").is_file()


@pytest.mark.usefixtures("server")
def test_a_stage_that_found_something_away_is_tried_again(project: Project) -> None:
    project.touch("train", "away at first")
    project.knobs({"train": {"away": "the source does not answer"}})
    done = project.deliver("--build-only")
    assert done.code == 0, done.err
    assert "the source does not answer" in done.err
    assert "; trying again in 5 s" in done.err
    assert states(project)["train@tiny"] == "ran"


@pytest.mark.usefixtures("server")
def test_a_stage_that_takes_too_long_is_stopped_with_all_that_it_started(project: Project) -> None:
    dag = project.root / "dvc.yaml"
    before = dag.read_text()
    limited = yaml.safe_load(before)
    limited["stages"]["train"]["do"]["meta"] = {"timeout_s": TIMEOUT_S, "grace_s": 1}
    dag.write_text(yaml.safe_dump(limited, sort_keys=False))
    project.touch("train", "for ever")
    project.knobs({"train": {"ranks": 2, "sleep": 3000}})
    try:
        failed = project.deliver("--build-only")
    finally:
        dag.write_text(before)
    assert failed.code == 1
    assert f"slipway: took longer than its timeout of {TIMEOUT_S} s" in failed.err
    assert states(project)["train@tiny"] == "failed"
    if (project.root / "ranks.json").exists():
        assert not any(map(alive, json.loads((project.root / "ranks.json").read_text())))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_whatever_ends_the_flow_no_child_is_left_and_the_next_run_goes_on(
    project: Project, number: signal.Signals, code: int
) -> None:
    project.touch("train", f"ended by {number}")
    project.knobs({"train": {"ranks": 2, "sleep": 300}})
    flow = project.start("--build-only")
    ranks = running_ranks(project)
    everything = descendants(flow.pid)
    assert set(ranks) < set(everything)
    flow.send_signal(number)
    assert_gone(ranks)
    _, err = flow.communicate(timeout=limit(20))
    assert flow.returncode == code
    assert_gone(everything)
    if number == signal.SIGINT:
        assert "slipway: stopping; the next run goes on from here" in err
        assert "Traceback" not in err
        assert project.run_json()["state"] == "interrupted"
        assert (project.root / ".slipway/runs/latest/report.html").is_file()
    interrupted = project.run_json()["run"]
    project.knobs({})
    assert project.deliver("--build-only").code == 0
    assert states(project)["train@tiny"] == "ran"
    before = json.loads((project.root / f".slipway/runs/{interrupted}/run.json").read_text())
    assert before["state"] == "interrupted"
    assert {e["stage"]: e["state"] for e in before["stages"]}["train@tiny"] == "stopped"


def kill_at_once(pids: list[int]) -> None:
    """Kill processes none of which sees another die."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)


def test_kill_9_of_flow_and_supervisors_leaves_nothing_behind(project: Project) -> None:
    project.touch("train", "flow and supervisors killed")
    project.knobs({"train": {"ranks": 2, "sleep": 300}})
    flow = project.start("--build-only")
    running_ranks(project)
    everything = descendants(flow.pid)
    supervisors = [pid for pid in everything if "supervise.py" in command_of(pid)]
    assert len(supervisors) == 2  # Prefect's API has one of its own
    kill_at_once([flow.pid, *supervisors])
    flow.communicate(timeout=20)
    assert_gone(everything)


@pytest.mark.usefixtures("server")
def test_a_stage_whose_supervisor_was_killed_fails_at_once_and_says_so(project: Project) -> None:
    project.touch("train", "supervisor killed")
    project.knobs({"train": {"ranks": 2, "sleep": 300}})
    flow = project.start("--build-only", **project.server())
    ranks = running_ranks(project)
    [supervisor] = [p for p in descendants(flow.pid) if "supervise.py" in command_of(p)]
    os.kill(supervisor, signal.SIGKILL)
    _, err = flow.communicate(timeout=60)
    assert flow.returncode == 1
    assert f"slipway: stopped: its supervisor (process {supervisor}) was killed\n" in err
    assert not any(map(alive, ranks))
    assert states(project)["train@tiny"] == "failed"


def test_kill_9_of_flow_supervisors_and_guards_is_cleared_up_by_the_next_run(
    project: Project,
) -> None:
    project.touch("train", "all killed")
    project.knobs({"train": {"ranks": 2, "sleep": 300}})
    flow = project.start("--build-only")
    ranks = running_ranks(project)
    everything = descendants(flow.pid)
    watching = re.compile(r"supervise\.py|slipway guard of")
    kill_at_once([flow.pid, *(p for p in everything if watching.search(command_of(p)))])
    flow.communicate(timeout=limit(20))
    assert all(map(alive, ranks))
    (project.root / ".dvc/tmp/rwlock").write_text('{"write": {"/half')
    project.knobs({})
    after = project.deliver("--build-only")
    assert after.code == 0, after.err
    assert not any(map(alive, everything))
    assert re.search(r"ending \d+ processes that a killed run left behind", after.err)
    assert "DVC's lock table was cut off by a killed process: cleared" in after.err
    assert states(project)["train@tiny"] == "ran"


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.usefixtures("server")
def test_a_dvc_lock_that_was_cut_off_costs_no_stage(project: Project) -> None:
    assert project.deliver("--build-only").code == 0
    lock = project.root / "dvc.lock"
    whole = lock.read_bytes()
    lock.write_bytes(whole[: whole.rindex(b"md5: ") + 2])
    after = project.deliver("--build-only")
    assert after.code == 0, after.err
    assert "ran" not in states(project).values()
    assert lock.read_bytes() == whole


@pytest.mark.usefixtures("server")
def test_a_flipped_byte_in_the_payload_is_found_and_mended_before_anything_uses_it(
    project: Project,
) -> None:
    """DVC's own check trusts time and size, and its cache delivers damaged files."""
    assert project.deliver("--build-only").code == 0
    model = project.root / "models/tiny/payload/model.onnx"
    times = (model.stat().st_atime_ns, model.stat().st_mtime_ns)
    data = bytearray(model.read_bytes())
    data[100] ^= 1
    model.write_bytes(data)
    os.utime(model, ns=times)
    whole = bytearray(data)
    whole[100] ^= 1
    assert project.deliver("--build-only").code == 0
    assert model.read_bytes() == bytes(whole)
    (payload,) = (s for s in project.run_json()["stages"] if s["stage"] == "payload@tiny")
    assert (payload["state"], payload["why"]) == ("ran", ["model.onnx differs from its SHA-256"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense", "--build-only"], "unknown pipeline 'nonsense'"),
        (["tiny", "--fleet", "nowhere"], "unknown fleet 'nowhere'"),
        (["tiny", "--build-onl", "--x"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_told_before_anything_starts(
    project: Project, arguments: list[str], message: str
) -> None:
    with within(10):
        done = subprocess.run(
            [sys.executable, "-m", "flows.commands.deliver", *arguments],
            cwd=project.root,
            env=project.environment(),
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_config_with_a_typo_is_told_with_exit_code_2(project: Project) -> None:
    path = project.root / "configs/tiny.yaml"
    before = path.read_text()
    path.write_text(before.replace("opset:", "opst:"))
    refused = project.deliver("--build-only")
    path.write_text(before)
    assert refused.code == 2
    assert "export.opst: unknown key; did you mean 'opset'?" in refused.err


GPU_STAGE = """
import runpy, sys
from pathlib import Path
from slipway.gpu.devices import GpuDevice
from slipway.gpu.slots import Slots, hold

def say(text):
    print(text, file=sys.stderr, flush=True)

gpu = (GpuDevice("nvidia0"),)
with hold(Slots(Path(".slipway/slots").absolute(), gpu), gpu, sys.argv[1], say):
    runpy.run_path("stage.py", run_name="__main__")
"""
"""A stage that takes its turn as the runner lets it, on a device that this machine may not have."""


@pytest.mark.usefixtures("server")
def test_gpu_stages_take_turns_and_a_killed_run_gives_its_slot_back(project: Project) -> None:
    dag = project.root / "dvc.yaml"
    before = dag.read_text()
    (project.root / "gpu_stage.py").write_text(GPU_STAGE)
    dag.write_text(before.replace("cmd: python stage.py e", "cmd: python gpu_stage.py e"))
    try:
        project.touch("train", "on a GPU")
        project.knobs({name: {"ranks": 1, "sleep": 300} for name in ("evaluate", "export")})
        with project.start("--build-only", **project.server()) as killed:
            try:
                ranks = running_ranks(project)
            finally:
                killed.kill()
        assert_gone(ranks)
        project.knobs({"evaluate": {"sleep": 2}, "export": {"sleep": 2}})
        done = project.deliver("--build-only")
        assert done.code == 0, done.err
    finally:
        dag.write_text(before)
    assert len(re.findall(r"(evaluate|export): waiting for nvidia0: e.* \(process ", done.err)) == 1
    entries = {entry["stage"]: entry for entry in project.run_json()["stages"]}
    ends = sorted(end(entries[name]) for name in ("evaluate@tiny", "export@tiny"))
    assert ends[1] - ends[0] > 1.5  # each has the device for two seconds


def end(entry: dict[str, Any]) -> float:
    return seconds(entry["started_at"]) + float(entry["seconds"])


@pytest.fixture(scope="module")
def with_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with a fleet of two hosts, which are stopped at the end."""
    project = Project(tmp_path_factory.mktemp("live") / "project")
    project.fleet(free_ports(4))
    yield project
    fleet(project, "down")


@pytest.fixture(scope="module")
def first_run(with_fleet: Project) -> Ended:
    """The run that builds, publishes and releases the first version."""
    done = with_fleet.deliver()
    assert done.code == 0, done.err
    return done


@pytest.fixture
def live(with_fleet: Project, first_run: Ended, prefect_server: PrefectServer) -> Project:
    """The project with its hosts serving."""
    with_fleet.api = prefect_server.api
    return with_fleet


def fleet(project: Project, verb: str) -> None:
    command = [sys.executable, "-m", "slipway.cli", "fleet", verb, "local"]
    subprocess.run(command, cwd=project.root, env=project.environment(), check=True)


def served(project: Project, url: str) -> str:
    reply = httpx.get(f"{url}/v2/models/tiny", trust_env=False).raise_for_status()
    version: str = reply.json()["versions"][0]
    return version


def test_the_first_run_ends_with_two_hosts_that_answer(live: Project, first_run: Ended) -> None:
    run = live.run_json()
    assert run["published"] == "new"
    assert run["release"]["decision"] == "first release"
    assert len(run["hosts"]) == 2
    command = next(line for line in first_run.out.splitlines() if line.startswith("curl "))
    answered = next(line for line in first_run.out.splitlines() if line.startswith("  -> "))
    reply = json.loads(answered.removeprefix("  -> "))
    assert reply["model_version"] == run["version"]
    assert 0 <= reply["outputs"][0]["data"][0] <= 1
    if shutil.which("curl"):
        told = subprocess.run(command, shell=True, capture_output=True, check=True).stdout
        assert json.loads(told)["outputs"] == reply["outputs"]
    for told in (run["version"], str(live.root), "slipway fleet down local", "parity"):
        assert told in first_run.out
    assert stat_mode(live.root / ".slipway/keys/builder.key") == 0o600


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_with_nothing_changed_nothing_is_released_and_stopped_hosts_start_again(
    live: Project,
) -> None:
    fleet(live, "down")
    with within(30):
        second = live.deliver()
    assert second.code == 0, second.err
    run = live.run_json()
    assert f"already serves v{run['version'][:12]}" in second.out
    assert run["published"] == "kept"
    channels = live.root / ".slipway/store/channels/local/tiny"
    assert len(list(channels.iterdir())) == 1
    for host in run["hosts"]:
        assert httpx.get(f"{host['url']}/v2/health/live", trust_env=False).is_success


def test_a_full_disk_while_publishing_leaves_nothing_half_published(live: Project) -> None:
    """A store on a real file system of 16 kB, which this run alone sees."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this machine does not allow a mount of one's own")
    live.touch("export", "too large for the disk")
    before = live.run_json()["version"]
    store = live.root / ".slipway/store"
    script = (
        f"mount -t tmpfs -o size=16k tmpfs {store};"
        f" {sys.executable} -m flows.commands.deliver tiny;"
        f" code=$?; find {store} -type f >&2; exit $code"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=live.root,
        env=live.environment(**live.server()),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert re.search("no space left while writing .*; nothing was published", done.stderr)
    assert "contract.json" in done.stderr
    assert "manifest.json" not in done.stderr
    assert live.run_json()["version"] != before
    assert live.run_json()["published"] is None
    assert not list(live.root.glob(".slipway/publish-*"))


def test_a_new_version_takes_over_by_way_of_a_canary(live: Project) -> None:
    done = live.deliver()
    assert done.code == 0, done.err
    run = live.run_json()
    assert run["published"] == "new"
    assert run["release"]["decision"] == "promoted"
    for host in run["hosts"]:
        reply = httpx.post(
            f"{host['url']}/v2/models/tiny/infer",
            content=next(
                line.split(" -d ")[1].strip("'")
                for line in done.out.splitlines()
                if line.startswith("curl ")
            ),
            headers={"Content-Type": "application/json"},
            trust_env=False,
        )
        assert reply.json()["model_version"] == run["version"]


def test_kill_9_of_the_flow_in_release_leaves_stable_serving_and_the_next_run_goes_on(
    live: Project,
) -> None:
    stable = live.run_json()["version"]
    urls = [host["url"] for host in live.run_json()["hosts"]]
    live.touch("export", "killed during its own canary")
    flow = live.start()
    channels = live.root / ".slipway/store/channels/local/tiny"
    known = len(list(channels.iterdir()))
    try:
        wait_until(lambda: len(list(channels.iterdir())) > known, "a canary", RANKS_S)
    finally:
        flow.kill()
        flow.communicate(timeout=limit(20))
    for url in urls:
        body = b'{"inputs": [{"name": "carrier", "datatype": "BYTES", "shape": [1], "data": ["AA"]}'
        body += b', {"name": "delay", "datatype": "FP32", "shape": [1], "data": [1.0]}]}'
        reply = httpx.post(f"{url}/v2/models/tiny/versions/{stable}/infer", content=body)
        assert reply.is_success
    after = live.deliver()
    assert after.code == 0, after.err
    assert live.run_json()["release"]["decision"] == "promoted"
