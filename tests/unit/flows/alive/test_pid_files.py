"""A pid file lasts as long as its process, and its lock not one moment longer."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.alive import pid_files
from flows.environment import OWN_API
from slipway.fleet.processes import boot_id, start_time
from tests.project import REPOSITORY

RUN = "0198c0de-0000-7000-8000-000000000001"
HOLD = f"""
import sys
from pathlib import Path
from flows.alive import pid_files
pid_files.hold(Path.cwd(), {RUN!r})
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that holds a run's pid file until it is told to end, or killed."""
    environment = {"PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_run_is_known_by_its_process_while_it_runs(
    tmp_path: Path, holder: "subprocess.Popen[bytes]"
) -> None:
    held = pid_files.read(tmp_path)[RUN]
    process = held.content.process
    assert held.locked
    assert held.content.machine == pid_files.machine()
    assert (process.pid, process.boot) == (holder.pid, boot_id())
    assert process.started == start_time(holder.pid)


def test_a_run_that_ends_leaves_nothing(tmp_path: Path, holder: "subprocess.Popen[bytes]") -> None:
    holder.communicate(b"end\n")
    assert holder.returncode == 0
    assert list((tmp_path / pid_files.FOLDER).iterdir()) == []


def test_a_run_that_is_killed_leaves_its_pid_file_without_a_lock(
    tmp_path: Path, holder: "subprocess.Popen[bytes]"
) -> None:
    holder.kill()
    holder.wait()
    assert not pid_files.read(tmp_path)[RUN].locked
    pid_files.forget(tmp_path, RUN)
    assert pid_files.read(tmp_path) == {}


def test_what_is_no_pid_file_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / pid_files.FOLDER
    folder.mkdir(parents=True)
    (folder / f"{RUN}.json").write_text("")  # a power cut before it was on the disk
    (folder / "notes.json").write_text("{}")
    assert pid_files.read(tmp_path) == {}


def test_a_run_with_an_api_of_its_own_has_no_pid_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OWN_API, "1")
    pid_files.hold(tmp_path, RUN)
    assert not (tmp_path / pid_files.FOLDER).exists()
