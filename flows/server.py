"""Prefect's API for the length of one run, where no Prefect server is configured.

Prefect has an ephemeral mode of its own, but that server stays behind for good after
`kill -9` of the flow, and a Ctrl-C on the terminal ends it before the flow could report.
This one is the same application on the same database, in a supervised tree. It also starts
while the flow's own imports and checks run.
"""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from flows.dag.tree import Tree
from flows.environment import OWN_API, WORKSPACE, mark
from slipway.errors import SlipwayError

START_TIMEOUT_S = 120
"""5 s of imports on a quiet machine, many times that on a small one under load."""

STOP_TIMEOUT_S = 10

LAST_WORDS_S = 5.0
"""How long logs and events that are still here may take on their way to the API."""

SERVE = """
import sys, uvicorn
from prefect.server.api.server import create_app
uvicorn.run(
    create_app(ephemeral=True), host="127.0.0.1", port=int(sys.argv[1]), log_level="error"
)
"""
"""A program of its own, so that nothing of this process is imported or held there."""


@contextmanager
def prefect_api(root: Path) -> Iterator["Server | None"]:
    """Start Prefect's API unless the user has one; set PREFECT_API_URL for this process.

    To be entered before Prefect is imported, as it reads its settings then.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield None
        return
    server = Server(root)
    ours = {"PREFECT_API_URL": server.url, OWN_API: "1"}
    os.environ.update(ours)
    try:
        yield server
    finally:
        for name in ours:
            del os.environ[name]
        _send_what_is_left()
        server.stop()


class Server:
    """A Prefect API server on a free port of the loopback interface."""

    def __init__(self, root: Path) -> None:
        """Start it; `wait_until_ready` says when it answers."""
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}/api"
        self.log = root / ".slipway/prefect/server.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        ours = {WORKSPACE: mark(root), "PREFECT_API_URL": self.url}
        environment = dict(os.environ) | ours
        command = [sys.executable, "-P", "-c", SERVE, str(port)]
        self._tree = Tree(command, root, environment, self.log)

    def wait_until_ready(self) -> None:
        """Return when the API answers; raise SlipwayError with its own words when it cannot."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._tree.running() and time.monotonic() < deadline:
            try:
                httpx.get(f"{self.url}/health", timeout=5, trust_env=False).raise_for_status()
                return
            except httpx.HTTPError:
                time.sleep(0.1)
        why = "ended" if not self._tree.running() else f"did not answer within {START_TIMEOUT_S} s"
        said = "\n  ".join(self.log.read_text("utf-8", "replace").splitlines()[-5:])
        raise SlipwayError(f"Prefect's API server {why}; {self.log} says:\n  {said}")

    def stop(self) -> None:
        """Stop it and wait until it is gone."""
        self._tree.stop()
        self._tree.wait(STOP_TIMEOUT_S)


def _send_what_is_left() -> None:
    """Let Prefect send logs and events while its server is there.

    It would do so when this process exits, and retry for minutes as nothing answers by then.
    """
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogHandler

        APILogHandler().flush()
        EventsWorker.drain_all(timeout=LAST_WORDS_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port
