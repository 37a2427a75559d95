"""Containment: nothing that a stage started outlives its runner, nor whoever started that."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from slipway.processes.containment import Above, Within, namespaces_allowed
from slipway.processes.marks import mark_of
from slipway.processes.supervise import GUARD, descendants
from tests.flow_project import REPOSITORY
from tests.support.pace import limit
from tests.support.processes import alive
from tests.support.waiting import wait_until

GONE_S = 2.0

RUNNER = """
import json, os, pathlib, signal, subprocess, sys, time
from slipway.processes import containment
from slipway.processes.marks import mark_of

starter, private, patience_s, work = sys.argv[1:]
if private == "no":
    containment.namespaces_allowed = lambda: False
within = containment.Within()
above = containment.Above.up_to(mark_of(int(starter)), os.environ)
code = containment.enter(above, within, lambda text: print(text, flush=True))
if code is not None:
    pathlib.Path("ended").write_text(json.dumps([code, within.ended]))
    sys.exit(code)
within.be_patient(float(patience_s))
exec(work)
"""

DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); time.sleep(600)"
)
STARTS = f"""
child = [sys.executable, "-c", {DEAF!r}]
own = {{"start_new_session": True, "stdout": subprocess.PIPE}}
ranks = [subprocess.Popen(child, **own) for _ in range(2)]
assert all(rank.stdout.readline() for rank in ranks)
pathlib.Path("here").touch()
"""
"""What torchrun does: ranks in sessions of their own, here deaf to SIGTERM."""

WAITS = STARTS + "time.sleep(600)"

SAVES = """
def save(*_):
    time.sleep(0.5); pathlib.Path("saved").touch(); os._exit(9)
signal.signal(signal.SIGTERM, save)
pathlib.Path("here").touch()
time.sleep(600)
"""

PRIVATE = pytest.param(
    "yes",
    marks=pytest.mark.skipif(not namespaces_allowed(), reason="no PID namespaces on this machine"),
)
either = pytest.mark.parametrize("private", [PRIVATE, "no"])


@pytest.fixture
def started() -> Iterator["Started"]:
    """Processes to end when a test failed to."""
    all_of_them = Started()
    yield all_of_them
    for pid in filter(alive, all_of_them.pids):
        os.kill(pid, signal.SIGKILL)
    for process in all_of_them.processes:
        process.wait()


class Started:
    """What a test started, itself or by others."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.processes: list[subprocess.Popen[bytes]] = []


class Runner:
    """A runner below a starter, which waits for it as DVC does, and its ranks."""

    def __init__(
        self, folder: Path, work: str, *, private: str, patience_s: float = 0, guard: int = 0
    ) -> None:
        self.folder = folder
        call = [sys.executable, "-c", RUNNER, "STARTER", private, str(patience_s), work]
        starter = (
            "import os, subprocess, sys;"
            f"call = [a.replace('STARTER', str(os.getpid())) for a in {call!r}];"
            "sys.exit(subprocess.run(call).returncode)"
        )
        environment = {"PYTHONPATH": str(REPOSITORY / "src")}
        if guard:
            environment[GUARD] = str(guard)
        with (folder / "said").open("w") as said:
            self.starter = subprocess.Popen(
                [sys.executable, "-c", starter],
                cwd=folder,
                env=os.environ | environment,
                stdout=said,
            )

    def wait_until_working(self, started: Started) -> None:
        started.processes.append(self.starter)
        wait_until((self.folder / "here").exists, "the work has begun")
        self.below = descendants(self.starter.pid)
        started.pids += [self.starter.pid, *self.below]
        self.pid = self.below[0]

    def ended(self) -> tuple[int, bool]:
        """Return what the runner says: the exit code, and whether the work noted its end."""
        code, noted = json.loads((self.folder / "ended").read_text())
        return code, noted


def assert_gone(pids: list[int], seconds: float = GONE_S) -> None:
    def left() -> list[int]:
        return [pid for pid in pids if alive(pid)]

    wait_until(lambda: not left(), lambda: f"gone; still there: {left()}", seconds)


@either
def test_the_exit_code_of_the_work_is_the_runners(tmp_path: Path, private: str) -> None:
    runner = Runner(tmp_path, "within.end(); sys.exit(7)", private=private)
    assert runner.starter.wait(limit(20)) == 7
    assert runner.ended() == (7, True)


@either
def test_work_that_a_signal_ends_says_which(tmp_path: Path, private: str) -> None:
    work = "os.kill(os.getpid(), signal.SIGSEGV)"
    runner = Runner(tmp_path, work, private=private)
    runner.starter.wait(limit(20))
    assert runner.ended() == (128 + signal.SIGSEGV, False)


@either
def test_what_finished_work_left_running_is_ended(
    tmp_path: Path, private: str, started: Started
) -> None:
    ends = "\nwhile not os.path.exists('seen'): time.sleep(0.01)\nsys.exit(3)"
    runner = Runner(tmp_path, STARTS + ends, private=private)
    runner.wait_until_working(started)
    (tmp_path / "seen").touch()
    assert runner.starter.wait(limit(20)) == 3
    assert not any(map(alive, runner.below))


@either
def test_kill_9_of_whoever_started_it_ends_everything(
    tmp_path: Path, private: str, started: Started
) -> None:
    runner = Runner(tmp_path, WAITS, private=private, patience_s=60)
    runner.wait_until_working(started)
    runner.starter.kill()
    assert_gone(runner.below)
    assert runner.ended() == (128 + signal.SIGTERM, False)


@pytest.mark.parametrize("private", [PRIVATE])
def test_kill_9_of_the_runner_ends_everything(
    tmp_path: Path, private: str, started: Started
) -> None:
    runner = Runner(tmp_path, WAITS, private=private)
    runner.wait_until_working(started)
    os.kill(runner.pid, signal.SIGKILL)
    assert_gone(runner.below)


@pytest.mark.parametrize("private", [PRIVATE])
def test_kill_9_of_all_that_can_be_seen_but_the_ranks_ends_the_ranks(
    tmp_path: Path, private: str, started: Started
) -> None:
    runner = Runner(tmp_path, WAITS, private=private)
    runner.wait_until_working(started)
    *others, _, _ = runner.below
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: none sees another die
        for pid in (runner.starter.pid, *others):
            with suppress(ProcessLookupError):  # the kernel was first
                os.kill(pid, number)
    assert_gone(runner.below)


def test_where_there_are_no_namespaces_the_work_ends_with_its_runner(
    tmp_path: Path, started: Started
) -> None:
    runner = Runner(tmp_path, WAITS, private="no")
    runner.wait_until_working(started)
    *those, _, _ = runner.below  # what the work had started is for its own launcher to bind
    os.kill(runner.pid, signal.SIGKILL)
    assert_gone(those)


@either
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_stop_the_work_may_save_itself(
    tmp_path: Path, private: str, number: signal.Signals, started: Started
) -> None:
    runner = Runner(tmp_path, SAVES, private=private, patience_s=60)
    runner.wait_until_working(started)
    os.kill(runner.pid, number)
    assert_gone(runner.below, 20)
    assert (tmp_path / "saved").exists()
    assert runner.ended() == (128 + number, False)


@either
def test_told_twice_it_may_not(tmp_path: Path, private: str, started: Started) -> None:
    runner = Runner(tmp_path, WAITS, private=private, patience_s=600)
    runner.wait_until_working(started)
    os.kill(runner.pid, signal.SIGINT)
    begins = "stopping: up to 600 s to save"
    wait_until(lambda: (tmp_path / "said").read_text().startswith(begins), "that is told")
    assert all(map(alive, runner.below[-2:])), "the ranks are waited for"
    os.kill(runner.pid, signal.SIGINT)
    assert_gone(runner.below)


@either
def test_the_patience_of_the_runner_ends(tmp_path: Path, private: str, started: Started) -> None:
    runner = Runner(tmp_path, WAITS, private=private, patience_s=1.5)
    runner.wait_until_working(started)
    os.kill(runner.pid, signal.SIGTERM)
    assert_gone(runner.below, 1.5 + GONE_S)


@either
def test_below_a_supervisor_its_guard_decides_how_long_that_may_take(
    tmp_path: Path, private: str, started: Started
) -> None:
    guard = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    started.pids.append(guard.pid)
    started.processes.append(guard)
    runner = Runner(tmp_path, WAITS, private=private, patience_s=600, guard=guard.pid)
    runner.wait_until_working(started)
    for pid in (runner.starter.pid, runner.pid):  # as a supervisor does with the whole tree
        os.kill(pid, signal.SIGTERM)
    runner.starter.wait(limit(10))
    time.sleep(0.2)  # two signals at once would be one
    os.kill(runner.pid, signal.SIGTERM)  # and its guard after it
    with pytest.raises(AssertionError):
        assert_gone(runner.below[-2:], 0.7)
    guard.kill()
    guard.wait()
    assert_gone(runner.below)


def test_those_above_are_the_ones_up_to_the_starter() -> None:
    me, parent = mark_of(os.getpid()), mark_of(os.getppid())
    assert Above.up_to(parent, {}) == Above((parent,) if parent else ())
    assert Above.up_to(None, {}) == Above()
    assert Above.up_to(me, {}) == Above(), "who is not above is not waited for"
    assert Above.up_to(None, {GUARD: str(os.getpid())}).guard == me
    assert Above.up_to(None, {GUARD: "x"}).guard is None


def test_what_is_said_within_is_read_outside() -> None:
    within = Within()
    if (child := os.fork()) == 0:
        within.be_patient(12.5)
        within.end()
        os._exit(0)
    os.waitpid(child, 0)
    assert (within.patience_s, within.ended) == (12.5, True)
