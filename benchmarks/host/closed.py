"""Every server under wrk, one after another, round after round.

Rounds are interleaved, so that a slow minute of the machine hits all alike. CPU time per request
hardly depends on what else runs; how much that was is recorded too.
"""

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from benchmarks.host import machine, payloads
from benchmarks.host.bare import Bare
from benchmarks.host.records import Record
from benchmarks.host.servers import Broken, Running, Server
from benchmarks.host.wrk import run_wrk

WARM_CONNECTIONS, WARM_S = 16, 1
BYTES = ("binary", "raw")


def compare(
    servers: Iterable[Server],
    bare: Bare,
    connections: list[int],
    seconds: int,
    patience_s: float,
    models: Path,
    folder: Path,
) -> Iterable[Record]:
    """Measure servers of one model for one round; one that is broken is named and left out."""
    for server in servers:
        try:
            with Running(server, models) as running:
                for payload in worth_measuring(server):
                    request = payloads.request(server.model, payload)
                    run_wrk(server.address(payload), request, WARM_CONNECTIONS, WARM_S, folder)
                    for count in connections:
                        machine.wait_for_quiet(patience_s)
                        seen = observe(running, payload, count, seconds, folder)
                        yield {**seen, **{f"bare_{k}": v for k, v in asdict(bare).items()}}
        except Broken as error:
            print(f"LEFT OUT: {error}", file=sys.stderr)


def worth_measuring(server: Server) -> list[str]:
    """Leave out bytes instead of JSON for 64 tokens: there is nothing to gain."""
    return [p for p in server.payloads if server.model != "encoder" or p not in BYTES]


def observe(running: Running, payload: str, connections: int, seconds: int, folder: Path) -> Record:
    """Run wrk once and account for the CPUs while it runs."""
    server, pids = running.server, running.pids()
    request = payloads.request(server.model, payload)
    before = machine.reading(pids)
    load = run_wrk(server.address(payload), request, connections, seconds, folder)
    after = machine.reading(pids)
    server_s = after.server.cpu_s - before.server.cpu_s
    per_request = 1e6 / max(load.requests, 1)
    return {
        "what": "closed", "server": server.name, "model": server.model, "payload": payload,
        "connections": connections, "rps": load.rps, "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms, "max_ms": load.max_ms, "errors": load.errors,
        "cpu_us": server_s * per_request if pids else None,
        "client_us": load.client_cpu_s * per_request,
        "foreign": machine.foreign_share(before, after, load.client_cpu_s),
        "pss_mib": after.server.pss_mib, "rss_mib": after.server.rss_mib, "cold_s": running.cold_s,
    }  # fmt: skip
