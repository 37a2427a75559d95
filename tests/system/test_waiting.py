"""DVC at work beside slipway: it is named and waited for, and nobody's work fails."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows.dag import stages
from tests.flow_project import PIPELINE, Project
from tests.support.pace import limit
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,  # real DVC, and a run
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]

HOLD = """
import sys
from dvc.repo import Repo
with Repo(".") as repo, repo.lock:
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def test_who_holds_dvcs_lock_is_named_and_waited_for_however_long(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=project.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        found = []
        reading = threading.Thread(
            target=lambda: found.extend(stages.read_stages(project.root, PIPELINE))
        )
        reading.start()
        told = ""

        def said() -> bool:  # DVC gives up after three seconds
            nonlocal told
            told += capfd.readouterr().err
            return "waiting for" in told

        wait_until(said, "told")
        assert f"process {holder.pid} (" in told
        assert "holds DVC's lock" in told
        assert not found
        holder.communicate(b"")
    reading.join()
    assert found[0].address == f"ingest@{PIPELINE}"


def test_a_run_beside_a_bare_dvc_repro_of_the_same_stage_waits_for_it(project: Project) -> None:
    (project.root / f"data/{PIPELINE}/sources.lock").write_text("{}\n")
    project.knobs({"ingest": {"meets": "go"}})  # it lasts until go.here is there
    command = [sys.executable, "-m", "dvc", "repro", f"ingest@{PIPELINE}"]
    with subprocess.Popen(
        command, cwd=project.root, env=project.environment(), stdout=subprocess.DEVNULL
    ) as bare:
        wait_until((project.root / "ingest.here").exists, "ingest runs")
        try:
            run = project.start("--build-only")
            line = next((line for line in run.stderr if "waiting for" in line), "")
        finally:
            project.root.joinpath("go.here").touch()
        out, err = run.communicate(timeout=limit(180))
        assert bare.wait() == 0
    assert f"waiting for process {bare.pid} (" in line
    assert (run.returncode, "version" in out) == (0, True), err
