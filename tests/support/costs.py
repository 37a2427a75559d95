"""What each room's tests cost: printed at the end of a run that was started with `--costs`.

Seconds of computing, of the tests and of every process they started and waited for, tell more
than seconds on the clock, which depend on what else this machine does.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pytest

STAGES = ("unit", "system", "soak")


@dataclass
class Cost:
    """What some tests cost together."""

    tests: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0


class Costs:
    """Counts the tests of one process; with xdist, its reports carry what its workers counted."""

    def __init__(self) -> None:
        self.rooms: dict[str, Cost] = {}
        self._began_s = time.monotonic()
        self._last_s = spent_s()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        self._last_s = spent_s()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        """Write on a report what its phase cost; a report travels to the main process whole."""
        report: Any = yield
        now_s = spent_s()
        report.cpu_s, self._last_s = now_s - self._last_s, now_s
        return report

    def pytest_runtest_logreport(self, report: Any) -> None:
        cost = self.rooms.setdefault(room(report.nodeid), Cost())
        cost.tests += report.when == "call"
        cost.wall_s += report.duration
        cost.cpu_s += getattr(report, "cpu_s", 0.0)  # none if a worker died

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("what each room costs")
        terminalreporter.write_line(f"{'tests':>6} {'wall s':>8} {'CPU s':>8}")
        for name, cost in [*sorted(self.rooms.items(), key=dearest), ("all", self.total())]:
            terminalreporter.write_line(
                f"{cost.tests:6} {cost.wall_s:8.1f} {cost.cpu_s:8.1f}  {name}"
            )
        terminalreporter.write_line(f"on the clock: {time.monotonic() - self._began_s:.0f} s")

    def total(self) -> Cost:
        costs = self.rooms.values()
        return Cost(
            sum(c.tests for c in costs), sum(c.wall_s for c in costs), sum(c.cpu_s for c in costs)
        )


def dearest(entry: tuple[str, Cost]) -> float:
    return -entry[1].cpu_s


def room(nodeid: str) -> str:
    """Name the room of a test: `unit/host` for tests/unit/host/** and tests/unit/test_host_*.py."""
    path = PurePosixPath(nodeid.partition("::")[0])
    parts = [part for part in path.with_suffix("").parts if part != "tests"]
    if len(parts) < 2 or parts[0] not in STAGES:
        return str(path.parent)
    return f"{parts[0]}/{parts[1].removeprefix('test_').partition('_')[0]}"


def spent_s() -> float:
    """Return the computing of this process and of the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", action="store_true", help="print what each room's tests cost")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--costs"):
        config.pluginmanager.register(Costs(), "costs")
