"""Long runs, in parts of some minutes: `make soak` goes on with the parts that have not passed.

What passed is remembered for the commit that it passed at. When every part has passed, the next
call begins again.
"""

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PASSED = "soak/passed"


class Progress:
    """Which parts have passed at this commit."""

    def __init__(self, config: pytest.Config) -> None:
        self._cache = config.cache
        self._commit = commit(config.rootpath)
        self.passed: list[str] = []
        self.parts: set[str] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out what has passed, unless that is everything."""
        known = self._known()
        parts = {item.nodeid for item in items if item.path.is_relative_to(HERE)}
        self.parts = parts
        if parts - known:
            self.passed = sorted(parts & known)
            config.hook.pytest_deselected(items=[i for i in items if i.nodeid in self.passed])
            items[:] = [item for item in items if item.nodeid not in self.passed]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed and report.nodeid in self.parts:
            self.passed.append(report.nodeid)
            self._cache.set(PASSED, {"commit": self._commit, "parts": self.passed})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        done = f"{len(self.passed)} of {len(self.parts)} parts have passed"
        terminalreporter.write_line(f"soak: {done} at {self._commit[:12]}")

    def _known(self) -> set[str]:
        known = self._cache.get(PASSED, {})
        return set(known["parts"]) if known.get("commit") == self._commit else set()


def commit(root: Path) -> str:
    """Name the commit that is checked out; without git, all runs are of one."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "no commit"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Progress(config), "soak-progress")
