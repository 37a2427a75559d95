"""A checkout stays usable after a run was killed, and nothing alive is touched."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.dag import workspace
from flows.dag.tree import Tree
from flows.environment import of_stage
from slipway.errors import SlipwayError
from slipway.processes.supervise import descendants
from tests.support.processes import alive
from tests.support.waiting import wait_until

Start = Callable[..., "subprocess.Popen[bytes]"]
SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start sleeping processes that end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(
        *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", SLEEP, *arguments]
        started.append(subprocess.Popen(command, cwd=cwd, env=env))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """DVC's lock table in a checkout."""
    path = tmp_path / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True)
    return path


def test_what_processes_were_started_for_is_read_from_their_environments(start: Start) -> None:
    process = start(env={"STARTED_FOR": "this"})
    seen = {process.pid: "this"}
    wait_until(lambda: workspace.values_in_environments("STARTED_FOR") == seen, "it is seen")
    process.kill()
    process.wait()
    assert workspace.values_in_environments("STARTED_FOR") == {}


def owned_by(pid: int) -> dict[str, object]:
    return {"write": {"/out": {"pid": pid, "cmd": "dvc repro"}}}


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


@pytest.mark.parametrize("half", ["", '{"write": {"/out": {"pi', "[]", '{"write": {"/out": 3}}'])
def test_a_half_written_lock_table_is_cleared(tmp_path: Path, table: Path, half: str) -> None:
    table.write_text(half)
    said: list[str] = []
    workspace.heal_lock_table(tmp_path, said.append)
    assert not table.exists() or json.loads(table.read_text()) == {}
    assert len(said) == 1


def test_a_half_written_lock_table_stays_while_dvc_is_at_work(
    tmp_path: Path, table: Path, start: Start
) -> None:
    table.write_text('{"wri')
    process = start("/somewhere/bin/dvc", "repro", cwd=tmp_path)
    wait_until(lambda: process.pid in workspace.dvc_commands(tmp_path), "it is seen")
    with pytest.raises(SlipwayError, match=str(process.pid)):
        workspace.heal_lock_table(tmp_path, print)
    assert table.read_text() == '{"wri'


def test_dvc_at_work_in_another_checkout_is_no_hindrance(
    tmp_path: Path, table: Path, start: Start
) -> None:
    table.write_text('{"wri')
    other = tmp_path / "other"
    other.mkdir()
    process = start("dvc", "repro", cwd=other)
    wait_until(lambda: process.pid in workspace.dvc_commands(other), "it is seen")
    workspace.heal_lock_table(tmp_path, print)
    assert not table.exists()


def test_a_living_owner_keeps_its_locks(tmp_path: Path, table: Path, start: Start) -> None:
    process = start()
    time.sleep(0.05)
    entries = owned_by(process.pid) | {"read": {"/dep": [{"pid": process.pid, "cmd": "dvc"}]}}
    table.write_text(json.dumps(entries))
    workspace.heal_lock_table(tmp_path, pytest.fail)
    assert json.loads(table.read_text()) == entries


def test_the_locks_of_dead_owners_go_and_the_others_stay(
    tmp_path: Path, table: Path, start: Start
) -> None:
    living, dead = {"pid": start().pid, "cmd": "dvc"}, {"pid": dead_pid(), "cmd": "dvc"}
    table.write_text(json.dumps({"write": {"/a": dead}, "read": {"/b": [dead, living]}}))
    workspace.heal_lock_table(tmp_path, lambda _: None)
    assert json.loads(table.read_text()) == {"read": {"/b": [living]}}


def test_a_process_younger_than_the_lock_table_only_bears_a_dead_owners_id(
    tmp_path: Path, table: Path, start: Start
) -> None:
    table.write_text(json.dumps(owned_by(start().pid)))
    hour_ago = time.time() - 3600
    os.utime(table, (hour_ago, hour_ago))
    workspace.heal_lock_table(tmp_path, lambda _: None)
    assert json.loads(table.read_text()) == {}


def test_an_untroubled_checkout_is_left_as_it_is(tmp_path: Path, table: Path) -> None:
    workspace.heal_lock_table(tmp_path, pytest.fail)
    table.write_text("{}")
    before = table.stat()
    workspace.heal_lock_table(tmp_path, pytest.fail)
    assert table.stat().st_mtime_ns == before.st_mtime_ns


def test_processes_of_a_killed_run_are_ended_and_those_of_other_checkouts_not(
    tmp_path: Path, start: Start
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    left = start(env=of_stage(here))
    others = [start(env=of_stage(there)), start()]
    wait_until(lambda: workspace.leftovers(here) == [left.pid], "it is seen")
    said: list[str] = []
    workspace.end_leftovers(here, said.append)
    assert not alive(left.pid)
    assert all(alive(process.pid) for process in others)
    assert workspace.leftovers(here) == []
    assert said == ["ending 1 processes that a killed run left behind"]


def test_what_a_living_supervisor_runs_is_not_left_behind(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys;"
        f" subprocess.Popen([sys.executable, '-c', {SLEEP!r}]);"
        f" print('up', flush=True); {SLEEP}"
    )
    tree = Tree([sys.executable, "-c", code], tmp_path, of_stage(tmp_path))
    lines = tree.lines()
    assert next(lines) == "up"
    guard, command, child = descendants(tree.pid)
    assert workspace.leftovers(tmp_path) == []
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: neither sees the other die
        for pid in (tree.pid, guard):
            os.kill(pid, number)
    wait_until(lambda: not alive(command), "the kernel has ended the command")
    wait_until(lambda: workspace.leftovers(tmp_path) == [child], "it is seen")
    workspace.end_leftovers(tmp_path, lambda _: None)
    assert not alive(child)
    assert list(lines) == []
    tree.wait()


def test_a_second_run_waits_for_the_first_and_a_killed_one_frees_the_checkout(
    tmp_path: Path,
) -> None:
    hold = (
        "import time; from pathlib import Path; from flows.dag.workspace import only_run\n"
        "with only_run(Path.cwd(), print): print('held', flush=True); time.sleep(600)"
    )
    root = Path(workspace.__file__).parents[2]
    first = subprocess.Popen(
        [sys.executable, "-c", hold],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"},
        stdout=subprocess.PIPE,
    )
    with first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        said: list[str] = []

        def kill_first(text: str) -> None:
            said.append(text)
            first.send_signal(signal.SIGKILL)

        with workspace.only_run(tmp_path, kill_first):
            assert said == [f"waiting for another run in this checkout (process {first.pid})"]
