import os
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.scm import NoSCMError

from flows.dag import opening
from flows.dag.opening import SAY_EVERY_S, Patience, blockers, wait_for_end
from slipway.errors import SlipwayError

GONE = 2**22 + 1  # no pid gets this high


class Time:
    """A clock that moves when somebody looks."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def look(self, seconds: float) -> None:
        self.now_s += seconds


def test_who_is_waited_for_is_said_at_once_and_then_each_minute():
    said, time = [], Time()
    patience = Patience(said.append, time)
    for _ in range(1250):  # 125 s
        patience.tell("process 7 (dvc repro)")
        time.look(0.1)
    assert [line.partition(" for process")[0] for line in said] == [
        "waiting",
        "waiting for 1 min",
        "waiting for 2 min",
    ]
    assert "process 7 (dvc repro)" in said[0]


DVC_SAYS = """Running stage 'train@tiny':
ERROR: failed to reproduce 'train@tiny': 'models/tiny/weights' is busy, it is being blocked by:
  (PID 4711): dvc repro train@tiny
  (PID 4712): dvc gc

If there are no processes with such PIDs, you can manually remove '.dvc/tmp/rwlock' and try again.
"""


def test_the_processes_that_block_a_command_of_dvc_are_taken_from_its_words():
    assert blockers(DVC_SAYS.splitlines()) == [4711, 4712]
    assert blockers(["  (PID 4711): this is train"]) == []
    assert blockers([]) == []


def test_a_process_that_is_gone_is_not_waited_for():
    said = []
    wait_for_end([GONE], said.append, lambda seconds: pytest.fail("it waits"))
    assert said == []


def test_a_living_process_is_named_and_looked_at_again_after_a_minute():
    said, looks = [], []
    wait_for_end([os.getpid()], said.append, looks.append)
    assert sum(looks) == SAY_EVERY_S
    (line,) = said
    assert f"process {os.getpid()} (" in line
    assert "python" in line


def test_a_process_that_ends_is_waited_for_no_longer():
    code = "print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as child:
        child.stdout.readline()  # it has begun
        looks = []

        def look(seconds: float) -> None:
            looks.append(seconds)
            child.communicate(b"\n")

        wait_for_end([child.pid], lambda line: None, look)
    assert len(looks) == 1


@pytest.mark.parametrize(
    ("error", "advice"),
    [(NoSCMError(), "git init"), (ValueError("any other"), "any other")],
)
def test_what_is_missing_comes_with_what_to_type(tmp_path: Path, error, advice):
    (tmp_path / ".dvc").mkdir()
    assert advice in opening._what_to_do(tmp_path, error)


def test_a_folder_without_dvc_says_to_make_it_a_project(tmp_path: Path):
    with pytest.raises(SlipwayError, match="Type: dvc init"), opening.opened(tmp_path):
        pass


def test_a_holder_is_named_by_the_id_in_the_lock_file(tmp_path: Path):
    assert "another DVC command" in opening._holder(tmp_path)
    (tmp_path / "lock").write_text(f" {os.getpid()}\n")
    assert opening._holder(tmp_path).startswith(f"process {os.getpid()} (")
    (tmp_path / "lock").write_text(f" {GONE}\n")
    assert "another DVC command" in opening._holder(tmp_path)
