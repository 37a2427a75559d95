"""Where there is nothing to do, a run costs nothing: Prefect is not even imported."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.alive.pid_files import FOLDER, PidFile, machine
from slipway.fleet.processes import Process
from tests.flow_project import STAGES, Ended, Project
from tests.support.pace import limit
from tests.support.ports import free_ports

pytestmark = pytest.mark.slow  # runs that import DVC, and one with Prefect

ALL = [f"{stage}@tiny" for stage in STAGES]

DEAR = ("prefect", "torch", "great_expectations", "pandas", "cyclonedx", "model_signing")
"""What a run with nothing to do has no use for."""

WALL = """
import sys

def look(event, told):
    if event == "import" and told[0] in NAMES:
        print("imports", told[0], file=sys.stderr)
        raise SystemExit(1)

sys.addaudithook(look)
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose first version serves on two hosts."""
    project = Project(tmp_path_factory.mktemp("idle") / "project")
    project.fleet(free_ports(4))
    first = project.deliver()
    assert first.code == 0, first.err
    yield project
    fleet(project, "down")


@pytest.fixture
def walled(live: Project, tmp_path: Path) -> Project:
    """The project, where importing what is dear ends the run with a word of it."""
    return Walled(live, tmp_path, DEAR)


@pytest.fixture
def bare(live: Project, tmp_path: Path) -> Project:
    """The project, where hardly anything can be imported."""
    return Walled(live, tmp_path, ("dvc", "duckdb", "onnxruntime"))


class Walled(Project):
    """A project whose runs find other modules first."""

    def __init__(self, project: Project, first: Path, names: tuple[str, ...]) -> None:
        self.root, self.api, self._first = project.root, None, first
        (first / "sitecustomize.py").write_text(WALL.replace("NAMES", repr(names)))

    def environment(self, **more: str) -> dict[str, str]:
        kept = super().environment(**more)
        return kept | {"PYTHONPATH": f"{self._first}{os.pathsep}{kept['PYTHONPATH']}"}


def fleet(project: Project, verb: str) -> None:
    command = [sys.executable, "-m", "slipway.cli", "fleet", verb, "local"]
    subprocess.run(command, cwd=project.root, env=project.environment(), check=True)


def needs_the_flow(ended: Ended) -> bool:
    """Tell whether a walled run went on to the flow."""
    return ended.code == 1 and "imports prefect" in ended.err


def run_ids(project: Project) -> set[str]:
    return {path.parent.name for path in project.root.glob(".slipway/runs/2*/run.json")}


def ledger(project: Project) -> list[dict[str, Any]]:
    files = sorted((project.root / ".slipway/store/ledger/local/tiny").iterdir())
    return [json.loads(path.read_text()) for path in files]


def test_a_run_with_nothing_to_do_ends_as_the_first_one_did(walled: Project) -> None:
    before = walled.run_json()
    done = walled.deliver()
    assert done.code == 0, done.err
    run = walled.run_json()
    assert run["run"] != before["run"]
    assert (run["state"], run["published"]) == ("completed", "kept")
    assert [(s["stage"], s["state"]) for s in run["stages"]] == [(a, "skipped") for a in ALL]
    assert run["release"]["decision"] == "already serves"
    for same in ("version", "precision", "gates", "hosts", "pipeline", "fleet"):
        assert run[same] == before[same]
    for told in (run["version"], "already serves", "curl -s", "  -> {", "fleet down local"):
        assert told in done.out
    assert "· train unchanged" in done.err
    assert (walled.root / ".slipway/runs" / run["run"] / "report.html").is_file()
    assert (ledger(walled)[-1]["run"], ledger(walled)[-1]["decision"]) == (
        run["run"],
        "already serves",
    )


def test_a_build_with_nothing_to_do_asks_no_host(walled: Project) -> None:
    entries = len(ledger(walled))
    done = walled.deliver("--build-only")
    assert done.code == 0, done.err
    run = walled.run_json()
    assert (run["fleet"], run["hosts"], run["release"]) == (None, [], None)
    assert run["version"] in done.out
    assert len(ledger(walled)) == entries


def test_a_changed_stage_is_the_flows(walled: Project) -> None:
    known, path = run_ids(walled), walled.root / "inputs/evaluate.txt"
    before = path.read_text()
    walled.touch("evaluate", "another text")
    try:
        assert needs_the_flow(walled.deliver())
    finally:
        path.write_text(before)
    assert run_ids(walled) == known


def test_a_damaged_output_is_the_flows(walled: Project) -> None:
    path = walled.root / "models/tiny/weights/text.txt"
    before, at = path.read_bytes(), path.stat().st_mtime_ns
    path.chmod(0o644)
    path.write_bytes(b"x" * len(before))
    os.utime(path, ns=(at, at))  # DVC goes by the time, and takes it for unchanged
    try:
        assert needs_the_flow(walled.deliver("--build-only"))
    finally:
        path.write_bytes(before)


def test_new_data_is_the_flows(walled: Project) -> None:
    table, pin = walled.root / "table.csv", walled.root / "data/tiny/sources.lock"
    before, pinned = table.read_text(), pin.read_text()
    table.write_text("a,b\n1,2\n5,6\n")
    try:
        done = walled.deliver()
        assert pin.read_text() == pinned, "whether it is accepted is the flow's to say"
    finally:
        table.write_text(before)
        pin.write_text(pinned)
    assert needs_the_flow(done)


def test_a_killed_run_before_it_is_the_flows(walled: Project) -> None:
    path = walled.root / ".slipway/runs/latest/run.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"state": "running"}))
    try:
        assert needs_the_flow(walled.deliver())
    finally:
        path.write_text(before)


def test_a_flow_run_that_died_here_is_told_to_the_users_server(walled: Project) -> None:
    path = walled.root / FOLDER / f"{uuid.uuid4()}.json"
    path.parent.mkdir(exist_ok=True)
    dead = PidFile(machine=machine(), process=Process(pid=1, started=0, boot="", command=[]))
    path.write_text(dead.model_dump_json())
    try:
        asked = walled.deliver(PREFECT_API_URL="http://127.0.0.1:9/api")
        alone = walled.deliver()
    finally:
        path.unlink()
    assert needs_the_flow(asked)
    assert alone.code == 0, alone.err


def test_a_host_that_is_down_is_the_flows_and_comes_back(live: Project, walled: Project) -> None:
    pid = json.loads((live.root / ".slipway/fleets/local/hosts/a.pid").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    assert needs_the_flow(walled.deliver())
    done = live.deliver()
    assert done.code == 0, done.err
    assert walled.deliver().code == 0


def test_another_environment_than_the_locked_is_refused_before_it_is_needed(
    bare: Project,
) -> None:
    lock = bare.root / "requirements.lock"
    before, known = lock.read_text(), run_ids(bare)
    lock.write_text(before.replace("torch==", "torch==1"))
    try:
        done = bare.deliver()
    finally:
        lock.write_text(before)
    assert done.code == 2
    assert "torch: locked 12." in done.err
    assert "-m pip install -r requirements.lock" in done.err
    assert run_ids(bare) == known


def test_a_recorded_difference_stands_in_the_record_and_makes_nothing_stale(
    walled: Project,
) -> None:
    lock, config = walled.root / "requirements.lock", walled.root / "configs/tiny.yaml"
    before, text = lock.read_text(), config.read_text()
    lock.write_text(before.replace("torch==", "torch==1"))
    config.write_text(yaml.safe_dump(yaml.safe_load(text) | {"environment": "record"}))
    try:
        done = walled.deliver("--build-only")
    finally:
        lock.write_text(before)
        config.write_text(text)
    assert done.code == 0, done.err
    (told,) = walled.run_json()["environment"]
    assert told.startswith("torch: locked 12.")
    assert [line for line in done.err.splitlines() if "torch: locked" in line] == [
        f"the environment is not that of requirements.lock: {told}"
    ]


def test_a_second_run_waits_for_the_first(walled: Project) -> None:
    both = [walled.start("--build-only") for _ in range(2)]
    said = [process.communicate(timeout=limit(60)) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
