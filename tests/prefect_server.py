"""A Prefect server of one's own, as a team runs one: a flow finds it by PREFECT_API_URL."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

START_S = 120.0
"""Half a minute on a quiet machine, more on one under load."""

STOP_S = 20.0


class PrefectServer:
    """`prefect server start` on a free port, with its state in a folder of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Start it and wait until it answers; its log is server.log in the folder."""
        port = _free_port()
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
            until(self._healthy, START_S, f"the server answers; see {log.name}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        end(self._process)

    def _healthy(self) -> bool:
        assert self._process.poll() is None
        try:
            return httpx.get(f"{self.api}/health", timeout=5, trust_env=False).is_success
        except httpx.HTTPError:
            return False


def until(true: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a process, by force where it does not stop by itself."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
