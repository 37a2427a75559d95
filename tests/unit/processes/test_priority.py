"""Stages that stand back behind what serves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = """
import os, subprocess
from slipway.processes.priority import stand_back
stand_back({nice})
disks = subprocess.check_output(["ionice", "-p", str(os.getpid())], text=True)
print(os.getpriority(os.PRIO_PROCESS, 0), disks)
"""


def priorities(nice: int, *command: str) -> str:
    called = [*command, sys.executable, "-c", PRINTS.format(nice=nice)]
    return subprocess.run(called, check=True, capture_output=True, text=True).stdout


def test_a_nice_stage_has_the_lowest_priority_on_disks_too() -> None:
    nice, disks = priorities(10).split(" ", 1)
    assert (int(nice), disks.strip()) == (10, "best-effort: prio 7")


def test_one_that_is_not_is_left_as_it_was() -> None:
    assert int(priorities(0).split()[0]) == os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.parametrize("nice", [0, 5])
def test_a_priority_is_never_raised(nice: int) -> None:
    assert int(priorities(nice, "nice", "-n", "15").split()[0]) >= 15


TELLS = """
import os, sys
from pathlib import Path
from slipway.processes.priority import stand_back, stand_back_as_session
{before}
stand_back(10)
{after}
print(Path("/proc/self/autogroup").read_text().split()[-1])
"""
AGAIN = """
sys.stdout.flush()
if (child := os.fork()) == 0:  # as torchrun starts its ranks
    os.setsid()
    stand_back_as_session()
else:
    sys.exit(os.waitpid(child, 0)[1])
"""

needs_autogroups = pytest.mark.skipif(
    not Path("/proc/self/autogroup").is_file(), reason="this kernel shares no CPU by session"
)


@needs_autogroups
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param("", "", 10, id="forked by init"),
        pytest.param("os.setsid()", "", 10, id="leads its session"),
        pytest.param("os.setsid()", AGAIN, 10, id="a rank"),
        pytest.param("os.setpgid(0, 0)", "", 0, id="a job of a shell"),
    ],
)
def test_it_counts_against_other_sessions(before: str, after: str, expected: int) -> None:
    program = TELLS.format(before=before, after=after)
    # in a session of its own, so that no test lowers that of the others
    outer = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}], check=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", outer],
        check=True, capture_output=True, text=True, start_new_session=True,
    )  # fmt: skip
    assert int(done.stdout) == expected
