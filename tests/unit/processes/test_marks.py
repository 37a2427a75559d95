"""A process is named so that no later one with its number is taken for it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from slipway.processes.marks import first_without, lives, mark_of, parent_of

ME = mark_of(os.getpid())


@pytest.fixture
def other() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that lives until its input ends."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process


def test_a_process_lives_until_it_has_ended(other: "subprocess.Popen[bytes]") -> None:
    mark = mark_of(other.pid)
    assert mark is not None
    assert lives(mark) is True
    other.kill()
    other.wait()
    assert lives(mark) is False


def test_one_that_nobody_waited_for_has_ended_too(other: "subprocess.Popen[bytes]") -> None:
    mark = mark_of(other.pid)
    assert mark is not None
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert lives(mark) is False


@pytest.mark.parametrize("changed", [{"start_ticks": 1}, {"boot": "another"}])
def test_the_same_number_at_another_time_is_another_process(changed: dict[str, object]) -> None:
    assert ME is not None
    assert lives(replace(ME, **changed)) is False


def test_of_another_machine_nobody_here_knows() -> None:
    assert ME is not None
    assert lives(replace(ME, host="elsewhere")) is None


def test_the_parent_is_seen() -> None:
    assert parent_of(os.getpid()) == os.getppid()
    assert mark_of(2**30) is None


@pytest.mark.parametrize("shell", [[], ["sh", "-c", '"$@"; true', "sh"]])
def test_who_gave_a_variable_is_found_through_any_shell(shell: list[str]) -> None:
    code = "from slipway.processes.marks import first_without; print(first_without('GIVEN').pid)"
    done = subprocess.run(
        [*shell, sys.executable, "-c", code],
        env=os.environ | {"GIVEN": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == os.getpid()


def test_without_the_variable_the_parent_is_the_nearest() -> None:
    found = first_without("NOBODY_GAVE_THIS")
    assert found == mark_of(os.getppid())
