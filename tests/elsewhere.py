"""A worker whose runs are no processes of its machine: what prefect.yaml has it start is given."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.prefect_server import PrefectServer
from tests.support.ports import free_ports
from tests.system.test_prefect import PIPELINE, Committed, Prefect


class Shells(Committed):
    """A project whose shells have more in their environment."""

    def __init__(self, root: Path, more: Mapping[str, str]) -> None:
        self._more = more
        super().__init__(root, PIPELINE)

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(**self._more, **more)


@contextmanager
def started_by(pool: str, command: str, folder: Path, more: Mapping[str, str]) -> Iterator[Prefect]:
    """Have a pool's command start every run; deployments are registered, the worker is ready."""
    project = Shells(folder / "project", more)
    project.fleet(free_ports(4))
    project.take_code()
    deployments = project.root / "prefect.yaml"
    deployments.write_text(deployments.read_text().replace("name: slipway  #", f"name: {pool}  #"))
    path = project.root / f"configs/pools/{pool}.yaml"
    declared = yaml.safe_load(path.read_text())
    declared["base_job_template"]["variables"]["properties"]["command"]["default"] = command
    path.write_text(yaml.safe_dump(declared))
    project.commit()
    (folder / "server").mkdir()
    server = PrefectServer(folder / "server", project.environment())
    prefect = Prefect(project, server)
    try:
        prefect.run("slipway deployments apply")
        prefect.start_worker_and_wait()
        yield prefect
    finally:
        prefect.stop()
        server.stop()
