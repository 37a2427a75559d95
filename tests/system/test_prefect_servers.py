"""Prefect servers of other kinds than the tests' usual one: on PostgreSQL, and one that is lost."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow_project import Project
from tests.postgres import Postgres
from tests.prefect_server import PrefectServer
from tests.support.pace import limit
from tests.support.ports import free_ports
from tests.support.waiting import wait_until
from tests.system.test_prefect import PIPELINE, Committed, Prefect

pytestmark = pytest.mark.slow  # servers, a worker and runs in processes of their own

RUNS_S = 60.0
"""From the start of a run to a stage that runs."""

LEFT_S = 15.0
"""How long a run whose work is done may take to find that its server is gone."""


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    postgres = Postgres()
    yield postgres
    postgres.stop()


def test_a_triggered_run_ends_completed_on_a_server_with_postgresql(
    postgres: Postgres, tmp_path: Path
) -> None:
    project = Committed(tmp_path / "project", PIPELINE)
    project.fleet(free_ports(4))
    project.take_code()
    project.commit()
    on_postgres = {"PREFECT_API_DATABASE_CONNECTION_URL": postgres.url}
    server = PrefectServer(tmp_path / "server", project.environment(**on_postgres))
    prefect = Prefect(project, server)
    try:
        prefect.start_all()
        assert prefect.first["type"] == "COMPLETED"
        assert not list((tmp_path / "server").rglob("*.db")), "its state is in PostgreSQL"
    finally:
        prefect.stop()
        prefect.run("slipway fleet down local")
        server.stop()


def test_a_run_whose_server_is_gone_goes_on_and_ends_as_its_work_does(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / "project")
    server = PrefectServer(tmp_path / "server", project.environment())
    project.knobs({"train": {"ranks": 1, "sleep": 4}})
    flow = project.start("--build-only", PREFECT_API_URL=server.api)
    wait_until((project.root / "ranks.json").exists, "the stage runs", RUNS_S)
    server.kill()
    wait_until(lambda: project.run_json()["state"] == "completed", "the record says so", RUNS_S)
    done_s = time.monotonic()
    out, err = flow.communicate(timeout=limit(LEFT_S))
    assert time.monotonic() - done_s < limit(LEFT_S)
    assert flow.returncode == 0
    assert project.run_json()["version"] in out
    (line,) = (line for line in err.splitlines() if "Prefect" in line)
    assert line.endswith("is gone: it could not be told how this run ended")
    assert "Traceback" not in err
    assert "Error logging" not in err
    states = {stage["state"] for stage in project.run_json()["stages"]}
    assert states == {"ran"}
