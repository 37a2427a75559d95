"""Stages that stand back behind what serves."""

import os
import subprocess
import sys

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
