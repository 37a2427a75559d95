"""Every server under wrk, one after another, round after round.

Rounds are interleaved, so that a slow minute of the machine hits all alike. CPU time per request
hardly depends on what else runs; how much that was is recorded too.
"""

import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from benchmarks.host import machine, payloads
from benchmarks.host.bare import Bare
from benchmarks.host.records import Record
from benchmarks.host.servers import Broken, Running, Server
from benchmarks.host.wrk import run_wrk

WARM_CONNECTIONS, WARM_S = 16, 1


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
                    run_wrk(server.url, request, WARM_CONNECTIONS, WARM_S, folder)
                    for count in connections:
                        machine.wait_for_quiet(patience_s)
                        seen = observe(running, payload, count, seconds, folder)
                        yield {**seen, **{f"bare_{k}": v for k, v in asdict(bare).items()}}
        except Broken as error:
            print(f"LEFT OUT: {error}", file=sys.stderr)


def worth_measuring(server: Server) -> list[str]:
    """Leave out binary for 512 bytes of tokens: there is nothing to gain."""
    return [p for p in server.payloads if (server.model, p) != ("encoder", "binary")]


def observe(running: Running, payload: str, connections: int, seconds: int, folder: Path) -> Record:
    """Run wrk once and account for the CPUs while it runs."""
    server, pids = running.server, running.pids()
    request = payloads.request(server.model, payload)
    all_before, own_before = machine.clock(), machine.usage(pids)
    bench_before = time.process_time()
    load = run_wrk(server.url, request, connections, seconds, folder)
    bench_s = time.process_time() - bench_before
    all_after, own_after = machine.clock(), machine.usage(pids)
    server_s = own_after.cpu_s - own_before.cpu_s
    busy_s = all_after.busy_s - all_before.busy_s
    foreign_s = busy_s - server_s - load.client_cpu_s - bench_s
    per_request = 1e6 / max(load.requests, 1)
    return {
        "what": "closed", "server": server.name, "model": server.model, "payload": payload,
        "connections": connections, "rps": load.rps, "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms, "max_ms": load.max_ms, "errors": load.errors,
        "cpu_us": server_s * per_request if pids else None,
        "client_us": load.client_cpu_s * per_request,
        "foreign": foreign_s / (all_after.total_s - all_before.total_s) if pids else None,
        "pss_mib": own_after.pss_mib, "rss_mib": own_after.rss_mib, "cold_s": running.cold_s,
    }  # fmt: skip
