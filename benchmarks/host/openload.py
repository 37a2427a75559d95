"""Open-loop load: requests leave at planned times, whether or not earlier ones are answered.

A closed loop waits for a slow server and so never sees the queue it makes ("coordinated
omission"). Here the plan is drawn beforehand, and latency counts from the planned time. The
sending is done by openload.c: on two shared cores a generator in Python would take the CPU that
it is meant to measure.
"""

import os
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.host.machine import pass_priority_on
from benchmarks.host.servers import host_and_port

SOURCE = Path(__file__).with_name("openload.c")
WARM = 64
"""Connections that are open before the first request."""
CONNECTIONS = 2048
"""At most open at once, half of what a host of ours admits; a request that finds none waits, and
the wait counts."""
FAILED, UNFINISHED = 0, -1
"""Statuses of a broken connection, and of a request without an answer at the end."""


@dataclass(frozen=True)
class Answers:
    """Every request of a run, in the order of the plan; seconds and milliseconds."""

    due_s: np.ndarray
    lag_ms: np.ndarray
    """Between the planned time and the first byte sent: the generator's own fault, or no
    connection left."""
    latency_ms: np.ndarray
    """From the planned time to the last byte; NaN where there was no answer."""
    status: np.ndarray
    client_cpu_s: float

    def between(self, start_s: float, end_s: float) -> "Answers":
        """Take the requests that were due in a window."""
        kept = (self.due_s >= start_s) & (self.due_s < end_s)
        parts = (self.due_s, self.lag_ms, self.latency_ms, self.status)
        return Answers(*(part[kept] for part in parts), self.client_cpu_s)


def plan(phases: list[tuple[float, float]], seed: int = 7) -> np.ndarray:
    """Draw the times of a Poisson process, in seconds, for phases of (rate, seconds).

    Poisson, since that is what many independent clients are: an even beat flatters a queue.
    """
    random, start, parts = np.random.default_rng(seed), 0.0, []
    for rate, seconds in phases:
        gaps = random.exponential(1 / rate, int(rate * seconds + 10 * (rate * seconds) ** 0.5 + 10))
        times = np.cumsum(gaps)
        parts.append(start + times[times < seconds])
        start += seconds
    return np.concatenate(parts)


def build(folder: Path) -> Path:
    """Compile the generator unless the folder has it newer than its source."""
    program = folder / "openload"
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE]
        subprocess.run(command, check=True)
    return program


def send(
    program: Path,
    url: str,
    request: tuple[dict[str, str], bytes],
    times_s: np.ndarray,
    folder: Path,
    connections: int = CONNECTIONS,
    drain_s: float = 15.0,
) -> Answers:
    """Send one request at each planned time; wait for late answers at most `drain_s`."""
    host, port, path = host_and_port(url)
    (folder / "request").write_bytes(written(host, port, path, request))
    (times_s * 1e9).astype("<i8").tofile(folder / "plan")
    warm = min(WARM, connections)
    numbers = [str(warm), str(connections), str(drain_s)]
    files = [folder / "request", folder / "plan", folder / "result"]
    command = [program, host, str(port), *files, *numbers]
    with subprocess.Popen(command, start_new_session=True) as running:
        pass_priority_on(running.pid)
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise RuntimeError(f"openload: exit code {running.returncode}")
    return read(folder / "result", used)


def written(host: str, port: int, path: str, request: tuple[dict[str, str], bytes]) -> bytes:
    """Write a request as it goes over the wire."""
    headers, body = request
    lines = {"Host": f"{host}:{port}", **headers, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def read(path: Path, used: resource.struct_rusage) -> Answers:
    """Read what the generator noted."""
    due, sent, done, status = np.fromfile(path, "<i8").reshape(-1, 4).T
    answered = status > FAILED
    latency_ms = np.where(answered, (done - due) / 1e6, np.nan)
    lag_ms = np.where(sent > 0, (sent - due) / 1e6, np.nan)
    return Answers(due / 1e9, lag_ms, latency_ms, status, used.ru_utime + used.ru_stime)
