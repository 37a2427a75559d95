"""What `slipway deployments` says where it cannot work; what it does is in test_prefect.py."""

import shutil
from pathlib import Path

import pytest

from tests.system.test_worker import NOWHERE, REPOSITORY, command


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(REPOSITORY / "prefect.yaml", tmp_path)
    shutil.copytree(REPOSITORY / "configs/pools", tmp_path / "configs/pools")
    return tmp_path


@pytest.mark.parametrize("action", ["apply", "check"])
def test_without_a_server_it_says_how_to_name_one(project: Path, action: str) -> None:
    done = command("deployments", project, action)
    assert done.returncode == 2
    assert "export PREFECT_API_URL=http://HOST:4200/api, or give it by --server" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_is_named(project: Path) -> None:
    done = command("deployments", project, "check", "--server", NOWHERE)
    assert done.returncode == 1
    assert f"the Prefect server at {NOWHERE}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_project_that_declares_nothing_is_refused_before_any_server_is_asked(
    tmp_path: Path,
) -> None:
    done = command("deployments", tmp_path, "apply", "--server", NOWHERE)
    assert done.returncode == 2
    assert "has no prefect.yaml" in done.stderr
