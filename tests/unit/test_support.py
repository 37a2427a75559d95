"""What the tests themselves rest on: limits that follow the machine, one loop that waits, ports."""

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import pace, waiting
from tests.support.costs import room
from tests.support.pace import Pace, limit, within
from tests.support.ports import CANDIDATES, free_ports
from tests.support.waiting import eventually, wait_until

REPOSITORY = Path(__file__).parents[2]
COSTS = "tests.support.costs"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> "Machine":
    """A machine whose pace the test says."""
    machine = Machine(monkeypatch)
    monkeypatch.setattr(pace, "measure", machine.measure)
    monkeypatch.setattr(waiting, "measure", machine.measure)
    return machine


class Machine:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.slowness, self.measured = 1.0, 0
        self._patch = patch
        self.measure()

    def measure(self) -> None:
        self.measured += 1
        self._patch.setattr(pace, "_latest", Pace(self.slowness, time.monotonic()))


def test_a_limit_is_a_multiple_of_what_a_quiet_machine_needs(machine: Machine) -> None:
    quiet_s = limit(1.0)
    machine.slowness = 4.0
    machine.measure()
    assert limit(1.0) == 4 * quiet_s
    assert limit(2.0) == 8 * quiet_s


def test_this_machine_is_measured_when_a_limit_is_first_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "_latest", None)
    assert limit(1.0) >= pace.MARGIN


def test_a_measurement_is_renewed_between_tests_and_only_when_it_is_old(machine: Machine) -> None:
    before = machine.measured
    pace.pytest_runtest_setup()
    assert machine.measured == before
    pace._latest = Pace(1.0, time.monotonic() - 2 * pace.FRESH_S)
    pace.pytest_runtest_setup()
    assert machine.measured == before + 1


def test_what_was_waited_for_is_returned() -> None:
    answers = iter([None, 0, "", "it"])
    assert wait_until(lambda: next(answers), "it") == "it"
    answers = iter([None, 0, "", "it"])
    assert asyncio.run(eventually(lambda: next(answers), "it")) == "it"


def test_what_does_not_come_is_said_in_the_words_of_that_moment(machine: Machine) -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s: 3 of 4"):
        wait_until(lambda: False, lambda: f"{3} of 4", within_s=0.01)
    with pytest.raises(AssertionError, match="not within 0 s: it"):
        asyncio.run(eventually(lambda: False, "it", within_s=0.01))


def test_a_machine_that_became_slower_meanwhile_is_waited_for(machine: Machine) -> None:
    began = time.monotonic()
    machine.slowness = 1000.0
    late_s = 3 * limit(0.01)
    assert wait_until(lambda: time.monotonic() > began + late_s, "late", within_s=0.01)


def test_a_block_that_takes_longer_than_its_limit_fails(machine: Machine) -> None:
    with within(1.0):
        pass
    with pytest.raises(AssertionError, match=r"took 0\.\d s"), within(0.001):
        time.sleep(0.05)
    machine.slowness = 1000.0
    with within(0.001):
        time.sleep(0.05)


def test_ports_are_drawn_from_those_that_no_connection_is_given() -> None:
    ports = free_ports(200)
    assert len(set(ports)) == 200
    assert set(ports) <= set(CANDIDATES)
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(CANDIDATES) < lowest


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        ("tests/unit/test_host_engine_cache.py::test_a[x/y]", "unit/host"),
        ("tests/unit/host/engine/test_cache.py::test_a", "unit/host"),
        ("tests/system/test_deliver.py::test_a", "system/deliver"),
        ("tests/soak/test_rows.py::test_a", "soak/rows"),
        ("elsewhere/test_a.py::test_a", "elsewhere"),
    ],
)
def test_a_test_belongs_to_the_room_that_it_is_about(nodeid: str, expected: str) -> None:
    assert room(nodeid) == expected


@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_each_room_cost_is_printed_children_included(tmp_path: Path, processes: str) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    for name in ("a", "b"):
        (tmp_path / f"test_{name}.py").write_text(
            f"import subprocess, sys\n\n"
            f"def test_it():\n    subprocess.run([sys.executable, '-c', {burn!r}], check=True)\n"
        )
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", COSTS, "--costs"]
    done = subprocess.run(
        [*command, "-c", "/dev/null", "--rootdir", str(tmp_path), "-n", processes, str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=limit(30),
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # a second each
    )  # fmt: skip
    found = re.search(r"^ +(\d+) +([\d.]+) +([\d.]+)  all$", done.stdout, re.M)
    assert found, done.stdout + done.stderr
    assert int(found[1]) == 2
    assert float(found[3]) >= 1.0
