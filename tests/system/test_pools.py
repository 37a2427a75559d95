"""Work pools and limits on a live server: missing, changed, of another kind, emptied under way."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.prefect_server import PrefectServer
from tests.support.pace import limit
from tests.system.test_prefect import PIPELINE, Committed
from tests.system.test_worker import command

pytestmark = pytest.mark.slow  # a server


class Site:
    """A server, and a project that is not registered there yet."""

    def __init__(self, folder: Path) -> None:
        (folder / "server").mkdir()
        self.project = Committed(folder / "project", PIPELINE)
        self.project.take_code()
        self.project.commit()
        self._server = PrefectServer(folder / "server", self.project.environment())
        self._http = httpx.Client(base_url=self._server.api, trust_env=False, timeout=limit(30))

    def close(self) -> None:
        self._http.close()
        self._server.stop()

    def run(self, name: str, *arguments: str, code: int = 0) -> str:
        """Run one of flows.commands; return all that it said."""
        done = command(name, self.project.root, *arguments, PREFECT_API_URL=self._server.api)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said, said[-1500:]
        return said

    def ask(self, method: str, path: str, **body: Any) -> Any:
        answer = self._http.request(method, path, json=body or None)
        return answer.raise_for_status().json() if answer.content else None

    def pools(self) -> list[str]:
        return sorted(pool["name"] for pool in self.ask("POST", "/work_pools/filter", limit=50))

    def differences(self) -> list[str]:
        said = self.run("deployments", "check", "--json", code=1).partition("\nset it right")[0]
        return list(json.loads(said)["differences"])

    def set_right(self) -> None:
        self.run("deployments", "apply")
        assert "holds what prefect.yaml declares" in self.run("deployments", "check")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("pools"))
    try:
        said = site.run("worker", code=2)  # before anything is registered
        assert "has no work pool 'slipway'; make it by: slipway deployments apply" in said
        assert site.pools() == [], (
            "Prefect's worker would have made one, without limit and template"
        )
        site.run("deployments", "apply")
        yield site
    finally:
        site.close()


def test_limits_that_somebody_lifted_and_a_command_that_somebody_changed_are_set_right(
    site: Site,
) -> None:
    pool = site.ask("GET", "/work_pools/slipway")
    template = pool["base_job_template"]
    command = template["variables"]["properties"]["command"]
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 1)
    assert command["default"] == "python -m flows.commands.engine"
    command["default"] = "sh evil.sh"
    changed = {"concurrency_limit": None, "base_job_template": template}
    site.ask("PATCH", "/work_pools/slipway", **changed)
    deployment = site.ask("GET", "/deployments/name/deliver/manual")
    pull = [{"prefect.deployments.steps.run_shell_script": {"script": "sh evil.sh"}}]
    changed = {"concurrency_limit": 3, "pull_steps": pull, "job_variables": {"command": "sh"}}
    site.ask("PATCH", f"/deployments/{deployment['id']}", **changed)
    pool_limit, pool_command, *others = site.differences()
    assert pool_limit == "work pool slipway: concurrency limit is None, declared is 1"
    assert pool_command == (
        "work pool slipway: base job template variables properties command default is"
        " sh evil.sh, declared is python -m flows.commands.engine"
    )
    told = "deployment deliver/manual: "
    limit, command_of_it, steps = (line.removeprefix(told) for line in sorted(others))
    assert limit.startswith("concurrency limit is {'limit': 3")
    assert steps.startswith("work pool is {'name': 'slipway', 'job_variables': {'command': 'sh'}}")
    assert command_of_it.startswith("pull is [{'prefect.deployments.steps.run_shell_script'")
    site.set_right()


def test_a_pool_that_somebody_deleted_comes_back_and_nothing_that_was_asked_for_is_lost(
    site: Site,
) -> None:
    found = site.ask("GET", "/deployments/name/deliver/manual")
    run = site.ask("POST", f"/deployments/{found['id']}/create_flow_run", name="asked-for")
    site.ask("DELETE", "/work_pools/slipway")
    differences = site.differences()
    assert differences[0] == "work pool slipway: missing"
    assert "deployment deliver/manual: work pool is {'name': 'none'" in "\n".join(differences)
    assert "flow run asked-for: waits in a work pool that is gone" in differences
    assert "has no work pool 'slipway'" in site.run("worker", code=2)

    site.ask("POST", "/work_pools/", name="slipway", type="docker")  # somebody else's
    said = site.run("deployments", "apply", code=1)
    assert "'slipway' on the server is of type docker, which cannot be changed" in said
    assert "prefect work-pool delete slipway" in said
    assert site.ask("GET", "/work_pools/slipway")["base_job_template"] == {}, "it is left alone"
    said = site.run("worker", code=2)
    assert "which Prefect's own worker serves: pip install prefect-docker" in said
    site.ask("DELETE", "/work_pools/slipway")

    site.set_right()
    waiting = {"flow_runs": {"name": {"any_": ["asked-for"]}}}
    runs = {run["id"]: run for run in site.ask("POST", "/flow_runs/filter", **waiting)}
    before, (again,) = runs.pop(run["id"]), runs.values()
    assert before["state"]["message"] == (
        f"its work pool was deleted; asked for again as {again['id']}"
    )
    assert (before["state"]["type"], again["state"]["type"]) == ("CANCELLED", "SCHEDULED")
    assert (again["work_pool_name"], again["parameters"]) == ("slipway", before["parameters"])
