"""The numbers that the host has to reach, each judged from the records of a run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.host.loris import SLOW
from benchmarks.host.overload import BATCHES
from benchmarks.host.records import Record, calm, disturbance, group, middle, pick, typical
from benchmarks.host.rivals import BARE_LOOP, READY_MADE
from benchmarks.host.standings import (
    MODELS,
    OUR_PAYLOADS,
    Runs,
    by_server,
    cpu_efficiency,
    fastest,
    ours,
    peers,
)  # fmt: skip

OF_BARE_LOOP = 0.85
TIMES_READY_MADE = {"json": 2.2, "binary": 2.6}
EFFICIENCY = {("cnn", "binary"): 0.90, ("cnn", "json"): 0.82, ("encoder", "json"): 0.95}
MS_OVER_BARE = 0.15
GOODPUT, REJECT_MS, RECOVERY_S = 0.90, 10, 2
LORIS_MOVED = 1.5
NEARLY_ALL = 0.9
"""Part of the slow connections that must have been open: an attack that failed proves nothing."""
OF_BARE_GPU = 0.90


@dataclass(frozen=True)
class Finding:
    """One number as it was measured, busy machine or not."""

    what: str
    measured: str
    wanted: str
    good: bool
    evidence: Sequence[Runs]
    """The rounds of each thing that it is taken from."""


@dataclass(frozen=True)
class Verdict:
    """One number: what was seen and whether it is enough."""

    what: str
    measured: str
    wanted: str
    passed: bool | None
    """None: no verdict."""


def judge(records: list[Record]) -> list[Verdict]:
    """Judge every number that the records allow; what was not measured is left out."""
    rules: list[Callable[[list[Record]], Iterator[Finding]]] = [
        beside_bare_loop, beside_ready_made, ahead, efficiency, latency_alone,
        steady, overloaded, besieged, on_gpu,
    ]  # fmt: skip
    return [settle(finding) for rule in rules for finding in rule(records)]


def settle(finding: Finding) -> Verdict:
    """Pass or fail what was found, or neither where the machine was busy with something else.

    On a busy machine two servers meet different neighbours, and no ratio means anything.
    """
    if reason := no_verdict(finding.evidence):
        return Verdict(finding.what, reason, finding.wanted, None)
    return Verdict(finding.what, finding.measured, finding.wanted, finding.good)


def no_verdict(evidence: Sequence[Runs]) -> str | None:
    """Say why there is no verdict: the first thing of which every round was disturbed."""
    reasons = [reason for runs in evidence if (reason := disturbance(runs))]
    return f"no verdict: {reasons[0]}" if reasons else None


def beside_bare_loop(records: list[Record]) -> Iterator[Finding]:
    """At 64 connections, the model that is all overhead: what we keep of the bare loop."""
    for payload in OUR_PAYLOADS:
        what = f"mlp, 64 connections, {payload}: of the bare loop"
        yield from ratio(records, payload, BARE_LOOP, (what, OF_BARE_LOOP))


def beside_ready_made(records: list[Record]) -> Iterator[Finding]:
    """At 64 connections, the same model: how many times the best ready-made HTTP server."""
    for payload, times in TIMES_READY_MADE.items():
        what = f"mlp, 64 connections, {payload}: times {READY_MADE}"
        yield from ratio(records, payload, READY_MADE, (what, times))


def ratio(
    records: list[Record], payload: str, name: str, asked: tuple[str, float]
) -> Iterator[Finding]:
    """Divide our requests per second by those of a peer in its fastest setting."""
    what, wanted = asked
    mine = ours(records, "mlp", 64).get(payload)
    other = fastest(by_server(records, "mlp", 64), name, payload)
    if mine and other:
        rate, peer = middle(mine, "rps"), middle(other, "rps")
        label = f"{other[0]['server']} {other[0]['payload']}"
        seen = f"{rate:,.0f}/s = {rate / peer:.2f} × {label} ({peer:,.0f}/s)"
        yield Finding(what, seen, f"≥ {wanted}", rate / peer >= wanted, [mine, other])


def ahead(records: list[Record]) -> Iterator[Finding]:
    """Our slowest payload against every peer in any; the bare loop is a limit and no peer."""
    for count, model in ((count, model) for count in (1, 64) for model in MODELS):
        mine, others = ours(records, model, count), peers(records, model, count)
        if mine and others:
            rate = min(middle(runs, "rps") for runs in mine.values())
            best, peer = next((name, middle(runs, "rps")) for name, runs in others.items())
            what = f"{model}, {count} connection{'s' * (count > 1)}: ahead of every peer"
            evidence = [*mine.values(), *others.values()]
            seen = f"{rate:,.0f}/s; {best} {peer:,.0f}/s"
            yield Finding(what, seen, "more", rate > peer, evidence)


def efficiency(records: list[Record]) -> Iterator[Finding]:
    """At 64 connections, models that work: how much of the CPU goes to the model."""
    for (model, payload), wanted in EFFICIENCY.items():
        if runs := ours(records, model, 64).get(payload):
            part = cpu_efficiency(runs)
            what = f"{model}, 64 connections, {payload}: CPU efficiency"
            yield Finding(what, f"{part:.3f}", f"≥ {wanted:.2f}", part >= wanted, [runs])


def latency_alone(records: list[Record]) -> Iterator[Finding]:
    """At one connection, what the host adds to the model's own time."""
    for payload, runs in ours(records, "mlp", 1).items():
        added = middle(runs, "p50_ms") - middle(runs, "bare_run_ms")
        what, wanted = f"mlp, 1 connection, {payload}: p50 − bare run", f"≤ {MS_OVER_BARE} ms"
        yield Finding(what, f"{added:.3f} ms", wanted, added <= MS_OVER_BARE, [runs])


def rounds_of(records: list[Record], what: str, *keys: str) -> Iterator[tuple[Record, Runs]]:
    """Go through what was measured in rounds: the median of the undisturbed, and all."""
    for rounds in group(pick(records, what=what), *keys).values():
        yield typical(calm(rounds) or rounds), rounds


def steady(records: list[Record]) -> Iterator[Finding]:
    """At 80 % of capacity, in an open loop: p99 in batch times."""
    for r, rounds in rounds_of(records, "open", "model", "payload"):
        p99, batch = r["steady_p99_ms"], r["bare_batch_ms"]
        seen = "some were never answered"
        if p99 is not None:
            seen = f"{p99:.1f} ms = {p99 / batch:.2f} × {batch:.1f} ms"
        what = f"{r['model']} {r['payload']}, 80 % of capacity: p99 in batch times"
        good = p99 is not None and p99 <= BATCHES * batch
        yield Finding(what, seen, f"≤ {BATCHES}", good, [rounds])


def overloaded(records: list[Record]) -> Iterator[Finding]:
    """At five times capacity: what is still done, how fast the rest is told, and after."""
    for r, rounds in rounds_of(records, "open", "model", "payload"):
        name = f"{r['model']} {r['payload']}, 5 × overload"
        part = r["goodput_rps"] / (r["capacity_rps"] * left_by_generator(r))
        seen = f"{part:.3f} ({r['goodput_rps'] / r['capacity_rps']:.3f} uncorrected)"
        what, wanted = f"{name}: goodput of capacity", f"≥ {GOODPUT:.2f}"
        yield Finding(what, seen, wanted, part >= GOODPUT, [rounds])
        late = r["reject_p99_ms"]
        told = "no rejects" if late is None else f"{late:.1f} ms (max {r['reject_max_ms']:.1f})"
        good = late is not None and late <= REJECT_MS and not r["other_answers"]
        told += f", {r['other_answers']} other answers" if r["other_answers"] else ""
        yield Finding(f"{name}: p99 of rejects", told, f"≤ {REJECT_MS} ms", good, [rounds])
        back, wanted = r["recovery_s"], f"≤ {RECOVERY_S} s"
        good = back <= RECOVERY_S
        yield Finding(f"{name}: recovered after", f"{back:.2f} s", wanted, good, [rounds])


def left_by_generator(record: Record) -> float:
    """Say what part of the CPUs is left to the server, compared with when capacity was measured.

    The flood comes out of the same cores: five times the requests are five times the work for
    the generator, and that is not the host's doing.
    """
    flooded = record["cores"] - record["overload_client_cores"]
    return flooded / (record["cores"] - record["capacity_client_cores"])


def besieged(records: list[Record]) -> Iterator[Finding]:
    """With slow connections beside: how an honest p99 moves."""
    for r, rounds in rounds_of(records, "loris", "model", "payload", "attack"):
        what = f"{r['model']}, {r['slow_connections']:,} slow connections ({r['attack']}): p99"
        seen = f"{r['moved']:.2f} × ({r['p99_before_ms']:.2f} → {r['p99_during_ms']:.2f} ms)"
        full = r["slow_connections"] >= NEARLY_ALL * SLOW
        good = full and r["moved"] <= LORIS_MOVED and not r["honest_errors"]
        yield Finding(what, seen, f"≤ {LORIS_MOVED} ×", good, [rounds])


def on_gpu(records: list[Record]) -> Iterator[Finding]:
    """On a GPU: rows per second against bare ONNX Runtime."""
    for r in pick(records, what="gpu"):
        seen = f"{r['of_bare']:.3f} ({r['our_rows_per_s']:,.0f} rows/s)"
        what = f"{r['model']} on a GPU, batches of {r['best_batch']}: of bare"
        good = r["of_bare"] >= OF_BARE_GPU
        yield Finding(what, seen, f"≥ {OF_BARE_GPU:.2f}", good, [[r]])
