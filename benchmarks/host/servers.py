"""Start a server, wait for its first right answer, stop everything it started."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from benchmarks.host import payloads
from benchmarks.host.machine import pass_priority_on, process_tree
from benchmarks.host.peers.specs import SPECS, open_session, rows

START_S = 90.0
STOP_S = 8.0
ESTABLISHED, LISTEN = "01", "0A"
"""States of a socket in /proc/net/tcp."""


@dataclass(frozen=True)
class Server:
    """One server of one model: how it is started and asked."""

    name: str
    model: str
    url: str
    """`{payload}` in it stands for the payload's name."""
    payloads: tuple[str, ...]
    command: tuple[str, ...] = ()
    """Empty: it runs already, and its CPU and memory cannot be told."""
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    """Where the command runs."""
    versions: int = 1
    """Versions of the model that must have answered before it counts as ready (V2 only)."""
    sockets: int = 0
    """IPv4 sockets that must listen before it counts as ready: one per process that has its own."""
    software: str = ""
    """What answers, with versions."""
    settings: str = ""
    """How it was told to."""

    def address(self, payload: str) -> str:
        """Find where requests of a payload go."""
        return self.url.replace("{payload}", payload)


class Broken(Exception):
    """A server that does not answer, or not rightly."""


class Running:
    """A server that answers rightly, for as long as the `with` lasts."""

    def __init__(self, server: Server, models: Path):
        self.server, self.models = server, models
        self.cold_s: float | None = None
        """From the start of the process to the first answer."""
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        start = time.perf_counter()
        self.log = tempfile.TemporaryFile()
        try:
            if self.server.command:
                await_port(self.server.url)
                self.process = launch(self.server, self.log.fileno())
            self.await_answers(start + START_S)
            self.cold_s = time.perf_counter() - start if self.process else None
            check_answers(self.server, self.models)
            for pid in self.pids():  # some of them may have sessions of their own
                pass_priority_on(pid)
        except Broken as error:
            tail = self.tail()
            self.stop()
            raise Broken(f"{self.server.name} {self.server.model}: {error}\n{tail}") from None
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def pids(self) -> list[int]:
        """List its processes, none where the bench did not start it."""
        return process_tree(self.process.pid) if self.process else []

    def tail(self) -> str:
        """Read the end of what it printed."""
        self.log.seek(0)
        return self.log.read()[-2000:].decode(errors="replace")

    def stop(self) -> None:
        """Ask it to end, then make it and whatever outlived it."""
        if self.process:
            pids = process_tree(self.process.pid)
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            for pid in pids[1:]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process = None
        self.log.close()

    def await_answers(self, end: float) -> None:
        """Ask until it answers, in every version and with every process that it shall have."""
        seen: set[str] = set()
        while len(seen) < self.server.versions or listening(self.server.url) < self.server.sockets:
            try:
                seen.add(version(self.server))
            except OSError as error:
                if time.perf_counter() > end or (self.process and self.process.poll() is not None):
                    raise Broken(f"no answer: {error}") from None
                time.sleep(0.02)
            if time.perf_counter() > end:
                raise Broken(
                    f"of {self.server.versions} versions only {seen} answered; listening:"
                    f" {listening(self.server.url)} of {self.server.sockets} sockets"
                )


def await_port(url: str) -> None:
    """Wait until a port is free; raise Broken where a stranger keeps it, who would be measured."""
    host, port, _ = host_and_port(url)
    end = time.perf_counter() + STOP_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)):
                return
        if time.perf_counter() > end:
            raise Broken(f"port {port} is taken; say another with --port")
        time.sleep(0.1)


def sockets(url: str, state: str) -> int:
    """Count the sockets of a server's port that are in a state of /proc/net/tcp."""
    _, port, _ = host_and_port(url)
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    table = (line.split() for line in lines)
    return sum(line[1].endswith(f":{port:04X}") and line[3] == state for line in table)


def listening(url: str) -> int:
    """Count the sockets that wait for connections: processes that share a port have one each."""
    return sockets(url, LISTEN)


def launch(server: Server, log: int) -> subprocess.Popen[bytes]:
    """Start its command in a session of its own, so that no Ctrl-C reaches it first."""
    return subprocess.Popen(
        server.command, env={**os.environ, **server.environment}, cwd=server.folder,
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip


def check_answers(server: Server, models: Path) -> None:
    """Raise Broken unless every payload gets what the bare model answers."""
    session = open_session(models / f"{server.model}.onnx")
    spec = SPECS[server.model]
    want = session.run(None, {spec.input: rows(server.model, 1)})[0][0]
    for payload in server.payloads:
        try:
            got = ask(server, payload)
        except OSError as error:
            raise Broken(f"{payload}: {error}") from None
        if got.shape != want.shape or not np.allclose(got, want, atol=spec.tolerance):
            raise Broken(f"wrong answer to {payload}: expected {want}, got {got}")


def ask(server: Server, payload: str) -> np.ndarray:
    """Send one request and read the numbers of the answer."""
    return payloads.read_answer(payload, *fetch(server, payload))


def version(server: Server) -> str:
    """Send one request and read which version answered; "" where the protocol does not say."""
    _, body = fetch(server, server.payloads[0])
    answer = json.loads(body)
    return answer.get("model_version") or "" if isinstance(answer, dict) else ""


def fetch(server: Server, payload: str) -> tuple[dict[str, str], bytes]:
    """Send one request; OSError covers refused connections and answers other than 200."""
    headers, body = payloads.request(server.model, payload)
    request = urllib.request.Request(server.address(payload), body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}, answer.read()


def host_and_port(url: str) -> tuple[str, int, str]:
    """Split an http URL into host, port and path."""
    parts = url.removeprefix("http://").split("/", 1)
    host, _, port = parts[0].partition(":")
    return host, int(port or 80), "/" + (parts[1] if len(parts) > 1 else "")
