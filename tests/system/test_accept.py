"""A changed source waits for a person where the config says so; the command line asks."""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.project import environment, make_project, slipway, write_rows
from tests.support.pace import limit

LOCK, PROFILE = "data/flights/sources.lock", "data/flights/accepted.json"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that asks, whose first data was accepted."""

    def ask(config: dict[str, Any]) -> None:
        config["accept"] = {"policy": "ask"}

    root = make_project(tmp_path_factory.mktemp("accept") / "project", ask)
    done = slipway(root, "accept", "flights", "--yes")
    assert done.returncode == 0, done.stderr
    assert (root / PROFILE).is_file()
    return root


def answer(root: Path, words: bytes) -> tuple[int, str]:
    """Type an answer on a terminal; return the exit code and what stdout got."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "slipway.cli", "accept", "flights"],
        cwd=root, env=environment(), stdin=theirs, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        os.write(ours, words)
        out, _ = process.communicate(timeout=limit(60))
    os.close(ours)
    os.close(theirs)
    return process.returncode, out


def pinned(root: Path) -> tuple[bytes, bytes]:
    return (root / LOCK).read_bytes(), (root / PROFILE).read_bytes()


def test_a_change_is_shown_asked_for_and_taken_with_a_yes(project: Path):
    before = pinned(project)
    write_rows(project / "rows.csv", 6_000)
    nobody = slipway(project, "accept", "flights")
    assert (nobody.returncode, "--yes accepts" in nobody.stderr) == (2, True)
    looked = slipway(project, "accept", "flights", "--dry-run")
    assert (looked.returncode, "rows 12,000 -> 6,000 (-50.0 %)" in looked.stdout) == (0, True)
    for words in (b"\n", b"n\n", b"\x04"):
        assert answer(project, words)[0] == 1
    assert pinned(project) == before
    code, out = answer(project, b"y\n")
    assert (code, "rows 12,000 -> 6,000" in out) == (0, True)
    assert pinned(project)[0] != before[0]
    assert "are those that were accepted" in slipway(project, "accept", "flights").stdout


def test_git_sees_the_pin_and_the_profile_and_nothing_else(project: Path):
    said = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all", "data"],
        cwd=project, text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert said.stdout.split() == ["??", PROFILE, "??", LOCK]


@pytest.mark.slow
def test_a_run_stops_at_the_change_before_any_stage(project: Path):
    write_rows(project / "rows.csv", 5_000)
    before = pinned(project)
    done = slipway(project, "build", "flights")
    assert done.returncode == 1, done.stderr
    assert "changed and are not accepted" in done.stderr
    assert "slipway accept flights" in done.stderr
    assert pinned(project) == before
    assert not (project / "data/flights/raw").exists()
