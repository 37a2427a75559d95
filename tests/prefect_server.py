"""A Prefect server of one's own, as a team runs one: a flow finds it by PREFECT_API_URL."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.support.pace import limit
from tests.support.ports import free_port
from tests.support.processes import end
from tests.support.waiting import wait_until

START_S = 30.0


class PrefectServer:
    """`prefect server start` on a free port, with its state in a folder of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Start it and wait until it answers; its log is server.log in the folder."""
        port = free_port()
        self.api = f"http://127.0.0.1:{port}/api"
        own = {"PREFECT_HOME": str(folder / "home"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        (folder / "home").mkdir(parents=True)
        command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
        with (folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=folder, env={**environment, **own, "PREFECT_API_URL": self.api},
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            wait_until(self._healthy, f"the server answers; see {log.name}", START_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        end(self._process)

    def kill(self) -> None:
        """Lose it, as with its machine."""
        self._process.kill()
        self._process.wait()

    def _healthy(self) -> bool:
        assert self._process.poll() is None
        try:
            return httpx.get(f"{self.api}/health", timeout=limit(5), trust_env=False).is_success
        except httpx.HTTPError:
            return False
