"""Does the generator tell the truth? A server of known service time, against queueing theory.

The server answers one request after another, each exactly `service` seconds after the one before
or after its arrival: an M/D/1 queue under Poisson load. What it must measure is known twice over,
request by request (Lindley's recursion over the same plan) and as a mean (Pollaczek–Khinchine).
"""

import asyncio
import multiprocessing
import selectors
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.host import openload

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Calibration:
    """Measured beside what had to be measured, in milliseconds."""

    service_ms: float
    load: float
    requests: int
    mean_ms: float
    mean_wanted_ms: float
    theory_mean_ms: float
    p99_ms: float
    p99_wanted_ms: float
    lag_p99_ms: float
    client_cpu: float
    """Cores that the generator took."""


def queue_times(due_s: np.ndarray, service_s: float) -> np.ndarray:
    """Compute how long each request spends in a queue with one server of constant time."""
    free, spent = 0.0, np.empty(len(due_s))
    for i, due in enumerate(due_s):
        free = max(free, due) + service_s
        spent[i] = free - due
    return spent


def mean_time(load: float, service_s: float) -> float:
    """Pollaczek–Khinchine for constant service: mean time in an M/D/1 system."""
    return service_s * (1 + load / (2 * (1 - load)))


def calibrate(
    program: Path, load: float = 0.8, service_s: float = 0.005, seconds: float = 5
) -> Calibration:
    """Load the known server and compare."""
    context = multiprocessing.get_context("spawn")
    told, tell = context.Pipe(duplex=False)
    server = context.Process(target=serve, args=(tell, service_s), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{told.recv()}/"
        with TemporaryDirectory() as folder:
            times = openload.plan([(load / service_s, seconds)])
            seen = openload.send(program, url, ({}, b"x" * 64), times, Path(folder))
    finally:
        server.terminate()
        server.join()
    wanted_ms = 1e3 * queue_times(times, service_s)
    return Calibration(
        1e3 * service_s, load, len(times),
        float(seen.latency_ms.mean()), float(wanted_ms.mean()), 1e3 * mean_time(load, service_s),
        float(np.percentile(seen.latency_ms, 99)), float(np.percentile(wanted_ms, 99)),
        float(np.percentile(seen.lag_ms, 99)), seen.client_cpu_s / seconds,
    )  # fmt: skip


def serve(tell: Connection, service_s: float) -> None:
    """Be the known server, in a process of its own."""

    class Queue(asyncio.Protocol):
        free = 0.0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            Queue.free = max(Queue.free, loop.time()) + service_s
            loop.call_at(Queue.free, self.transport.write, ANSWER)

    # select() waits to the microsecond, epoll as asyncio calls it only to the millisecond
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    listening = loop.create_server(Queue, "127.0.0.1", 0, backlog=1024)
    tell.send(loop.run_until_complete(listening).sockets[0].getsockname()[1])
    loop.run_forever()
