"""Slow connections beside an honest load: does anybody else notice?

slowhttptest holds the connections, in three ways; wrk is the honest client, before, during and
after, so that a drift of the machine is not taken for an attack.
"""

import resource
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.host import payloads
from benchmarks.host.machine import foreign_share, reading, set_priority, usage
from benchmarks.host.records import Record
from benchmarks.host.servers import ESTABLISHED, Running, sockets
from benchmarks.host.wrk import Load, run_wrk

ATTACKS = {
    "headers": ("-H", "-t", "POST"),
    "body": ("-B", "-t", "POST", "-s", "8192"),
    "read": ("-X", "-t", "GET", "-k", "10", "-w", "512", "-y", "1024", "-n", "2", "-z", "5"),
}
"""Unfinished headers; unfinished bodies; 10 answers asked for at once and read by 5 bytes."""
SLOW = 2_000
OPEN_PER_S = 1_000
EVERY_S = 2
"""Seconds between two drops of bytes on a slow connection."""
CONNECT_S = 10.0
"""How long to wait for all of them; a host that refuses or drops them never shows all."""
HONEST = 16
SETTLE_S = 1.0
LEAST = 19
"""Niceness of the attacker's session. An attacker has a machine of its own; here its own looking
at 2,000 sockets would take much of a core, which is no harm that slow connections do."""


def besiege(running: Running, payload: str, attack: str, seconds: int, folder: Path) -> Record:
    """Measure the honest load before, during and after one attack."""
    server = running.server
    request = payloads.request(server.model, payload)

    def honest() -> Load:
        return run_wrk(server.url, request, HONEST, seconds, folder)

    before = honest()
    with slow_connections(server.url, attack, seconds) as (opened, attacker):
        start_s, start = usage([attacker]).cpu_s, reading(running.pids())
        during, held = honest(), sockets(server.url, ESTABLISHED)
        end = reading(running.pids())
        attacker_s = usage([attacker]).cpu_s - start_s
    time.sleep(SETTLE_S)
    after = honest()
    return {
        "what": "loris", "server": server.name, "model": server.model, "payload": payload,
        "attack": attack, "slow_connections": opened, "held_at_end": held,
        "honest_errors": during.errors, "honest_rps": during.rps,
        "foreign": foreign_share(start, end, during.client_cpu_s + attacker_s),
        "attacker_cores": attacker_s / seconds, "p99_before_ms": before.p99_ms,
        "p99_during_ms": during.p99_ms, "p99_after_ms": after.p99_ms,
        "moved": during.p99_ms / statistics.mean((before.p99_ms, after.p99_ms)),
    }  # fmt: skip


@contextmanager
def slow_connections(url: str, attack: str, seconds: int) -> Iterator[tuple[int, int]]:
    """Hold slow connections to a server; yield how many were seen at once, and who holds them."""
    raise_file_limit()
    # reading slowly wants something to read: the model's metadata
    target = url.removesuffix("/infer") if attack == "read" else url
    pace = {"-c": SLOW, "-r": OPEN_PER_S, "-i": EVERY_S, "-x": 16, "-p": 3, "-v": 0}
    length_s = CONNECT_S + seconds + 30  # longer than needed: it is ended from here
    options = [str(part) for pair in pace.items() for part in pair]
    command = ["slowhttptest", *ATTACKS[attack], *options, "-l", f"{length_s:.0f}", "-u", target]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as attacker:
        try:
            set_priority(attacker.pid, LEAST)
            opened = await_connections(url)
            if attacker.poll() is not None:
                raise RuntimeError(f"slowhttptest ended at once: {' '.join(command)}")
            yield opened, attacker.pid
        finally:
            attacker.kill()


def await_connections(url: str) -> int:
    """Wait until all slow connections are open; return the most that were."""
    end, most = time.perf_counter() + CONNECT_S, 0
    while most < SLOW and time.perf_counter() < end:
        time.sleep(0.2)
        most = max(most, sockets(url, ESTABLISHED))
    return most


def raise_file_limit() -> None:
    """Allow this process and its children every file that they may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
