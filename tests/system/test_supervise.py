"""The supervisor: nothing that it started outlives whoever started it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.dag.tree import SUPERVISOR, Tree
from slipway.processes.supervise import GRACE_S, descendants
from tests.flow_project import REPOSITORY
from tests.support.pace import limit
from tests.support.processes import alive
from tests.support.waiting import wait_until

GONE_S = 2.0
"""Ranks are gone in less: the grace is one."""

RANKS = """
import json, os, pathlib, signal, subprocess, sys, time
deaf = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); time.sleep(600)"
)
child = [sys.executable, "-c", deaf]
ranks = [
    subprocess.Popen(child, start_new_session=True, stdout=subprocess.PIPE) for _ in range(2)
]
assert all(rank.stdout.readline() for rank in ranks)
# an orphan: its parent ends at once, when the orphan is deaf, too
middle = (
    "import subprocess;"
    f"child = subprocess.Popen({child!r}, start_new_session=True, stdout=subprocess.PIPE);"
    "child.stdout.readline(); print(child.pid)"
)
orphan = int(subprocess.check_output([sys.executable, "-c", middle]))
pids = [os.getpid(), *(rank.pid for rank in ranks), orphan]
pathlib.Path("new.json").write_text(json.dumps(pids))
os.rename("new.json", "pids.json")
"""
"""What torchrun does: ranks in sessions of their own, here deaf to SIGTERM; and an orphan."""

WAITS = RANKS + "time.sleep(600)"
ENDS = "\nwhile not os.path.exists('seen'): time.sleep(0.01)\nsys.exit(3)"


@pytest.fixture
def started() -> Iterator[list[int]]:
    """Processes to end when a test failed to."""
    pids: list[int] = []
    yield pids
    for pid in filter(alive, pids):
        os.kill(pid, signal.SIGKILL)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def supervised(code: str, folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, str(SUPERVISOR), "--", *python(code)], cwd=folder)


def pids_in(folder: Path, started: list[int]) -> list[int]:
    """Wait until the ranks run."""
    told = folder / "pids.json"
    wait_until(told.exists, "the ranks run")
    pids: list[int] = json.loads(told.read_text())
    started += pids
    assert all(map(alive, pids))
    return pids


def assert_gone(pids: list[int]) -> None:
    def left() -> list[int]:
        return [pid for pid in pids if alive(pid)]

    wait_until(lambda: not left(), lambda: f"gone; still there: {left()}", GONE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_ranks_in_other_sessions_and_orphans(
    tmp_path: Path, started: list[int], number: signal.Signals
) -> None:
    supervisor = supervised(WAITS, tmp_path)
    pids = pids_in(tmp_path, started)
    supervisor.send_signal(number)
    assert_gone(pids)
    assert supervisor.wait(limit(5)) == 128 + number


def test_what_a_finished_command_left_running_is_ended_too(
    tmp_path: Path, started: list[int]
) -> None:
    supervisor = supervised(RANKS + ENDS, tmp_path)
    pids = pids_in(tmp_path, started)
    (tmp_path / "seen").touch()
    assert supervisor.wait(limit(10)) == 3
    assert not any(map(alive, pids))


def test_kill_9_of_the_process_that_started_it_ends_the_tree(
    tmp_path: Path, started: list[int]
) -> None:
    flow = subprocess.Popen(
        python(
            "import os, sys, time; from pathlib import Path; from flows.dag.tree import Tree\n"
            f"Tree([sys.executable, '-c', {WAITS!r}], Path.cwd(), os.environ); time.sleep(600)"
        ),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    pids = pids_in(tmp_path, started)
    supervisors = descendants(flow.pid)
    flow.kill()
    flow.wait()
    assert_gone([*pids, *supervisors])


def test_kill_9_of_the_flow_and_its_supervisor_together_ends_the_tree(
    tmp_path: Path, started: list[int]
) -> None:
    flow = subprocess.Popen(
        python(
            "import os, sys, time; from pathlib import Path; from flows.dag.tree import Tree\n"
            f"Tree([sys.executable, '-c', {WAITS!r}], Path.cwd(), os.environ); time.sleep(60)"
        ),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    pids = pids_in(tmp_path, started)
    everything = descendants(flow.pid)
    started += everything
    named = [pid for pid in everything if SUPERVISOR.name in command_of(pid)]
    assert len(named) == 1
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: neither sees the other die
        for pid in (flow.pid, *named):
            os.kill(pid, number)
    flow.wait()
    assert_gone([*pids, *everything])


@pytest.mark.parametrize(
    ("which", "said", "code"),
    [
        (0, "slipway: stopped: its supervisor (process {supervisor}) was killed", -signal.SIGKILL),
        (1, "slipway: stopped: the guard of its supervisor was killed", 128 + signal.SIGKILL),
    ],
)
def test_of_supervisor_and_guard_the_one_that_is_left_ends_the_tree_and_says_why(
    tmp_path: Path, started: list[int], which: int, said: str, code: int
) -> None:
    tree = Tree(python(WAITS), tmp_path, os.environ)
    pids = pids_in(tmp_path, started)
    guard = descendants(tree.pid)[0]
    assert command_of(guard).rstrip("\0") == f"slipway guard of process {tree.pid}"
    os.kill((tree.pid, guard)[which], signal.SIGKILL)
    assert list(tree.lines()) == [said.format(supervisor=tree.pid)]  # and so the output has ended
    assert tree.wait(GONE_S) == code
    assert_gone([*pids, guard])


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


def test_stop_ends_the_tree_and_wait_returns_when_it_is_gone(
    tmp_path: Path, started: list[int]
) -> None:
    tree = Tree(python(WAITS), tmp_path, os.environ, tmp_path / "log")
    pids = pids_in(tmp_path, started)
    tree.stop()
    assert tree.wait(limit(GONE_S)) == 128 + signal.SIGTERM
    assert not any(map(alive, pids))


def test_a_process_that_ends_at_sigterm_is_not_waited_for(tmp_path: Path) -> None:
    code = "import time; print('up', flush=True); time.sleep(600)"
    command = [sys.executable, str(SUPERVISOR), "--grace", "600", "--", *python(code)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"up\n"
        supervisor.terminate()
        assert supervisor.wait(limit(5)) == 128 + signal.SIGTERM
        assert supervisor.stdout.read() == b""


def test_lines_come_as_they_are_written_from_both_streams(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "print('out', flush=True); time.sleep(0.2); print('err', file=sys.stderr, flush=True)\n"
        "time.sleep(0.2); sys.stdout.buffer.write(b'\\xff no newline')"
    )
    tree = Tree(python(code), tmp_path, {})
    arrived = [(line, time.monotonic()) for line in tree.lines()]
    assert tree.wait() == 0
    assert [line for line, _ in arrived] == ["out", "err", "\ufffd no newline"]
    assert arrived[1][1] - arrived[0][1] > 0.1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", 0),
        ("raise SystemExit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9),
    ],
)
def test_the_exit_code_is_passed_on(tmp_path: Path, code: str, expected: int) -> None:
    assert supervised(code, tmp_path).wait(limit(10)) == expected


def test_a_command_that_does_not_exist_says_so(tmp_path: Path) -> None:
    tree = Tree(["no-such-command"], tmp_path, {})
    (said,) = tree.lines()
    assert tree.wait() == 127
    assert said.startswith("slipway: cannot start no-such-command")


def test_the_control_pipe_is_not_handed_to_the_command(tmp_path: Path) -> None:
    """If it were, the pipe would never end and neither would an orphaned tree."""
    tree = Tree(python("import os; print(sorted(os.listdir('/proc/self/fd')))"), tmp_path, {})
    (said,) = tree.lines()
    tree.wait()
    assert said == "['0', '1', '2', '3']"  # 3 is the listing itself


SAVES = """
import pathlib, signal, time
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
pathlib.Path("listening").touch()
while not stop:
    time.sleep(0.01)
time.sleep(2 * 1.0)  # twice what is given to a stage that asks for nothing
pathlib.Path("saved").touch()
"""

LONG_S = 600.0


def test_a_command_that_is_stopped_gently_may_save_its_work(tmp_path: Path) -> None:
    tree = Tree(python(SAVES), tmp_path, dict(os.environ), tmp_path / "said", patience_s=limit(30))
    wait_until((tmp_path / "listening").exists, "it listens")
    tree.stop_gently()
    tree.wait(limit(30))
    assert (tmp_path / "saved").exists()


def test_one_that_is_stopped_at_once_may_not(tmp_path: Path) -> None:
    tree = Tree(python(SAVES), tmp_path, dict(os.environ), tmp_path / "said", patience_s=LONG_S)
    wait_until((tmp_path / "listening").exists, "it listens")
    tree.stop()
    tree.wait(limit(30))
    assert not (tmp_path / "saved").exists()


def test_whoever_waits_for_the_deaf_can_end_it_at_once(tmp_path: Path, started: list[int]) -> None:
    tree = Tree(python(WAITS), tmp_path, dict(os.environ), tmp_path / "said", patience_s=LONG_S)
    pids = pids_in(tmp_path, started)
    tree.stop_gently()
    time.sleep(3 * GRACE_S)
    assert all(map(alive, pids[1:])), "they are waited for"
    tree.stop()
    assert_gone(pids)
    tree.wait(limit(30))


def test_patience_with_the_deaf_ends(tmp_path: Path, started: list[int]) -> None:
    tree = Tree(
        python(WAITS), tmp_path, dict(os.environ), tmp_path / "said", patience_s=2 * GRACE_S
    )
    pids = pids_in(tmp_path, started)
    tree.stop_gently()
    tree.wait(limit(30))
    assert_gone(pids)


def test_a_supervisor_killed_while_it_waits_leaves_nothing(
    tmp_path: Path, started: list[int]
) -> None:
    tree = Tree(python(WAITS), tmp_path, dict(os.environ), tmp_path / "said", patience_s=LONG_S)
    pids = pids_in(tmp_path, started)
    tree.stop_gently()
    time.sleep(GRACE_S)
    os.kill(tree.pid, signal.SIGKILL)
    assert_gone(pids)
    tree.wait(limit(30))
