"""The numbers that the host has to reach, each judged from the records of a run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.host.loris import SLOW
from benchmarks.host.ours import OURS
from benchmarks.host.overload import BATCHES
from benchmarks.host.records import Record, middle, pick, typical

MODELS = ("mlp", "cnn", "encoder")
TIMES_BEST_PEER = {"json": 10, "binary": 15}
EFFICIENCY = {("cnn", "binary"): 0.90, ("cnn", "json"): 0.82, ("encoder", "json"): 0.95}
MS_OVER_BARE = 0.15
GOODPUT, REJECT_MS, RECOVERY_S = 0.90, 10, 2
LORIS_MOVED = 1.5
NEARLY_ALL = 0.9
"""Part of the slow connections that must have been open: an attack that failed proves nothing."""
OF_BARE_GPU = 0.90


@dataclass(frozen=True)
class Verdict:
    """One number: what was seen and whether it is enough."""

    what: str
    measured: str
    wanted: str
    passed: bool


def judge(records: list[Record]) -> list[Verdict]:
    """Judge every number that the records allow; what was not measured is left out."""
    rules: list[Callable[[list[Record]], Iterator[Verdict]]] = [
        ratio_to_peers, efficiency, ahead_alone, latency_alone,
        steady, overloaded, besieged, on_gpu,
    ]  # fmt: skip
    return [verdict for rule in rules for verdict in rule(records)]


def best_peer(records: list[Record], model: str, connections: int) -> tuple[str, float] | None:
    """Find the fastest peer in any of its payloads."""
    rates = {
        f"{server} {payload}": middle(runs, "rps")
        for (server, payload), runs in by_server(records, model, connections).items()
        if server != OURS
    }
    return max(rates.items(), key=lambda item: item[1]) if rates else None


def by_server(
    records: list[Record], model: str, connections: int
) -> dict[tuple[str, str], list[Record]]:
    """Group the runs under wrk of one model and number of connections."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in pick(records, what="closed", model=model, connections=connections):
        groups.setdefault((record["server"], record["payload"]), []).append(record)
    return groups


def ours(records: list[Record], model: str, connections: int) -> dict[str, list[Record]]:
    """Group our own runs by payload."""
    groups = by_server(records, model, connections)
    return {payload: runs for (server, payload), runs in groups.items() if server == OURS}


def cpu_efficiency(runs: list[Record]) -> float:
    """Divide the CPU time that the bare model needs per row by what the server took."""
    bare_us = [{**r, "bare_us": cores_us(r)} for r in runs]
    return middle(bare_us, "bare_us") / middle(runs, "cpu_us")


def cores_us(record: Record) -> float:
    """Turn the raw limit back into CPU microseconds per row."""
    return 1e6 * record["cores"] / record["bare_rows_per_s"]


def ratio_to_peers(records: list[Record]) -> Iterator[Verdict]:
    """At 64 connections, the model that is all overhead: how many times the best peer."""
    peer = best_peer(records, "mlp", 64)
    for payload, times in TIMES_BEST_PEER.items():
        if peer and (runs := ours(records, "mlp", 64).get(payload)):
            ratio = middle(runs, "rps") / peer[1]
            seen = f"{middle(runs, 'rps'):,.0f}/s = {ratio:.1f} × {peer[0]} ({peer[1]:,.0f}/s)"
            what = f"mlp, 64 connections, {payload}: times the best peer"
            yield Verdict(what, seen, f"≥ {times}", ratio >= times)


def efficiency(records: list[Record]) -> Iterator[Verdict]:
    """At 64 connections, models that work: how much of the CPU goes to the model."""
    for (model, payload), wanted in EFFICIENCY.items():
        if runs := ours(records, model, 64).get(payload):
            part = cpu_efficiency(runs)
            what = f"{model}, 64 connections, {payload}: CPU efficiency"
            yield Verdict(what, f"{part:.3f}", f"≥ {wanted:.2f}", part >= wanted)


def ahead_alone(records: list[Record]) -> Iterator[Verdict]:
    """At one connection, our slowest payload against the best peer in any."""
    for model in MODELS:
        peer, mine = best_peer(records, model, 1), ours(records, model, 1)
        if peer and mine:
            rate = min(middle(runs, "rps") for runs in mine.values())
            seen = f"{rate:,.0f}/s; {peer[0]} {peer[1]:,.0f}/s"
            what = f"{model}, 1 connection: ahead of every peer"
            yield Verdict(what, seen, "more", rate > peer[1])


def latency_alone(records: list[Record]) -> Iterator[Verdict]:
    """At one connection, what the host adds to the model's own time."""
    for payload, runs in ours(records, "mlp", 1).items():
        added = middle(runs, "p50_ms") - middle(runs, "bare_run_ms")
        what = f"mlp, 1 connection, {payload}: p50 − bare run"
        yield Verdict(what, f"{added:.3f} ms", f"≤ {MS_OVER_BARE} ms", added <= MS_OVER_BARE)


def steady(records: list[Record]) -> Iterator[Verdict]:
    """At 80 % of capacity, in an open loop: p99 in batch times."""
    for r in typical(records, "open", "model", "payload"):
        p99, batch = r["steady_p99_ms"], r["bare_batch_ms"]
        seen = "some were never answered"
        if p99 is not None:
            seen = f"{p99:.1f} ms = {p99 / batch:.2f} × {batch:.1f} ms"
        what = f"{r['model']} {r['payload']}, 80 % of capacity: p99 in batch times"
        good = p99 is not None and p99 <= BATCHES * batch
        yield Verdict(what, seen, f"≤ {BATCHES}", good)


def overloaded(records: list[Record]) -> Iterator[Verdict]:
    """At five times capacity: what is still done, how fast the rest is told, and after."""
    for r in typical(records, "open", "model", "payload"):
        name = f"{r['model']} {r['payload']}, 5 × overload"
        part = r["goodput_rps"] / (r["capacity_rps"] * left_by_generator(r))
        seen = f"{part:.3f} ({r['goodput_rps'] / r['capacity_rps']:.3f} uncorrected)"
        what = f"{name}: goodput of capacity"
        yield Verdict(what, seen, f"≥ {GOODPUT:.2f}", part >= GOODPUT)
        late = r["reject_p99_ms"]
        told = "no rejects" if late is None else f"{late:.1f} ms (max {r['reject_max_ms']:.1f})"
        good = late is not None and late <= REJECT_MS and not r["other_answers"]
        told += f", {r['other_answers']} other answers" if r["other_answers"] else ""
        yield Verdict(f"{name}: p99 of rejects", told, f"≤ {REJECT_MS} ms", good)
        back = r["recovery_s"]
        yield Verdict(
            f"{name}: recovered after", f"{back:.2f} s", f"≤ {RECOVERY_S} s", back <= RECOVERY_S
        )


def left_by_generator(record: Record) -> float:
    """Say what part of the CPUs is left to the server, compared with when capacity was measured.

    The flood comes out of the same cores: five times the requests are five times the work for
    the generator, and that is not the host's doing.
    """
    flooded = record["cores"] - record["overload_client_cores"]
    return flooded / (record["cores"] - record["capacity_client_cores"])


def besieged(records: list[Record]) -> Iterator[Verdict]:
    """With slow connections beside: how an honest p99 moves."""
    for r in typical(records, "loris", "model", "payload", "attack"):
        what = f"{r['model']}, {r['slow_connections']:,} slow connections ({r['attack']}): p99"
        seen = f"{r['moved']:.2f} × ({r['p99_before_ms']:.2f} → {r['p99_during_ms']:.2f} ms)"
        full = r["slow_connections"] >= NEARLY_ALL * SLOW
        good = full and r["moved"] <= LORIS_MOVED and not r["honest_errors"]
        yield Verdict(what, seen, f"≤ {LORIS_MOVED} ×", good)


def on_gpu(records: list[Record]) -> Iterator[Verdict]:
    """On a GPU: rows per second against bare ONNX Runtime."""
    for r in pick(records, what="gpu"):
        seen = f"{r['of_bare']:.3f} ({r['our_rows_per_s']:,.0f} rows/s)"
        what = f"{r['model']} on a GPU, batches of {r['best_batch']}: of bare"
        yield Verdict(what, seen, f"≥ {OF_BARE_GPU:.2f}", r["of_bare"] >= OF_BARE_GPU)
