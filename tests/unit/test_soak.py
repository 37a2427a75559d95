"""`make soak` goes on with the parts that have not passed at this commit."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pace import limit

CONFTEST = Path(__file__).parents[1] / "soak/conftest.py"

PARTS = """
import pathlib, pytest

@pytest.mark.parametrize("part", range(3))
def test_it(part):
    assert part != 1 or pathlib.Path("mended").exists()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "test_parts.py").write_text(PARTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / ".gitignore").write_text("*\n")
    shutil.copy(CONFTEST, tmp_path)
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(root: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=root, check=True
    )


def commit(root: Path) -> None:
    git(root, "commit", "-q", "--allow-empty", "-m", "next")


def soak(root: Path) -> tuple[int, int]:
    """Run the parts that are due; return how many ran, and how many have passed in all."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "."],
        cwd=root, capture_output=True, text=True, timeout=limit(20),
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # a second each
    )  # fmt: skip
    ran = sum(int(n) for n in re.findall(r"(\d+) (?:passed|failed)", done.stdout.splitlines()[-1]))
    passed = re.search(r"soak: (\d) of 3 parts have passed at [0-9a-f]{12}", done.stdout)
    assert passed, done.stdout + done.stderr
    return ran, int(passed[1])


def test_what_passed_is_not_run_again_until_everything_has_passed(checkout: Path) -> None:
    assert soak(checkout) == (3, 2)
    assert soak(checkout) == (1, 2)
    (checkout / "mended").touch()
    assert soak(checkout) == (1, 3)
    assert soak(checkout) == (3, 3)


def test_at_another_commit_nothing_has_passed_yet(checkout: Path) -> None:
    assert soak(checkout) == (3, 2)
    commit(checkout)
    assert soak(checkout) == (3, 2)
