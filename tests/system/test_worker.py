"""What a worker must know before it starts; what it then does is in test_prefect.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.alive.reconcile import WORKER_ID, work_pools, worker_name
from slipway.errors import SlipwayError

REPOSITORY = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9/api"
"""The port that discards: nobody listens there."""


def worker(root: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m flows.commands.worker` with no Prefect server but the one in `environment`."""
    return command("worker", root, *arguments, **environment)


def command(
    name: str, root: Path, *arguments: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run one of flows.commands so."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    ours = {
        "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}",
        "PREFECT_HOME": str(root / "home"),
    }
    return subprocess.run(
        [sys.executable, "-m", f"flows.commands.{name}", *arguments],
        cwd=root,
        env=kept | ours | environment,
        capture_output=True,
        text=True,
    )


def deployments(root: Path, *pools: str) -> None:
    """Write a prefect.yaml with a deployment for each of these pools."""
    entries = "".join(
        f"  - {{name: d{i}, work_pool: {{name: {p}}}}}\n" for i, p in enumerate(pools)
    )
    (root / "prefect.yaml").write_text(f"deployments:\n{entries}")


def test_the_pools_are_those_of_prefect_yaml(tmp_path: Path) -> None:
    assert work_pools(REPOSITORY) == ["slipway"]
    assert work_pools(tmp_path) == []
    deployments(tmp_path, "one", "two", "one")
    assert work_pools(tmp_path) == ["one", "two"]


@pytest.mark.parametrize("text", ["", "deployments:", "deployments: [{name: nightly}]"])
def test_a_prefect_yaml_without_pools_names_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "prefect.yaml").write_text(text)
    assert work_pools(tmp_path) == []


def test_a_prefect_yaml_of_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text("deployments: nightly")
    with pytest.raises(SlipwayError, match=r"prefect\.yaml cannot be read"):
        work_pools(tmp_path)


def test_a_checkout_has_one_workers_name_and_shares_it_with_no_other(tmp_path: Path) -> None:
    name = worker_name(tmp_path / "checkout")
    assert worker_name(tmp_path / "checkout") == name
    shutil.copytree(tmp_path / "checkout", tmp_path / "copy")
    assert worker_name(tmp_path / "copy") != name
    (tmp_path / "checkout" / WORKER_ID).unlink()  # as on another machine with the same image
    assert worker_name(tmp_path / "checkout") != name


def test_a_worker_says_all_that_it_lacks(tmp_path: Path) -> None:
    lost = worker(tmp_path)
    assert lost.returncode == 2
    assert "PREFECT_API_URL=http://HOST:4200/api" in lost.stderr
    assert "no prefect.yaml that names a work pool: give one by --pool" in lost.stderr
    deployments(tmp_path, "one", "two")
    torn = worker(tmp_path, PREFECT_API_URL=NOWHERE)
    assert torn.returncode == 2
    assert "prefect.yaml names one, two, and a checkout has one worker" in torn.stderr


@pytest.mark.parametrize("name", ["worker", "deployments"])
def test_a_folder_without_git_is_refused_with_what_to_type(tmp_path: Path, name: str) -> None:
    deployments(tmp_path, "one")
    if name == "deployments":
        shutil.copy(REPOSITORY / "prefect.yaml", tmp_path)
        shutil.copytree(REPOSITORY / "configs/pools", tmp_path / "configs/pools")
    arguments = ["apply"] if name == "deployments" else []
    done = command(name, tmp_path, *arguments, PREFECT_API_URL=NOWHERE)
    assert done.returncode == 1
    assert "is no git repository" in done.stderr
    assert "git init && git add ." in done.stderr
    assert "Traceback" not in done.stderr


def test_where_no_server_is_configured_nothing_needs_fixing(tmp_path: Path) -> None:
    done = worker(tmp_path, "--reconcile-only")
    assert done.returncode == 0
    assert "no Prefect server is configured" in done.stderr


def test_a_server_that_does_not_answer_cannot_be_fixed(tmp_path: Path) -> None:
    deployments(tmp_path, "one")
    done = worker(tmp_path, "--reconcile-only", PREFECT_API_URL=NOWHERE)
    assert done.returncode == 1
    assert f"the Prefect server at {NOWHERE}" in done.stderr
    assert "Traceback" not in done.stderr
