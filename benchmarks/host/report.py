"""Records as markdown: the verdicts first, then everything that was measured."""

from collections.abc import Iterator, Sequence

from benchmarks.host.ours import OURS
from benchmarks.host.records import Record, calm, group, middle, pick
from benchmarks.host.rivals import BARE_LOOP
from benchmarks.host.standings import (
    ENCODING,
    MODELS,
    OUR_PAYLOADS,
    Runs,
    by_server,
    cpu_efficiency,
    fastest,
    ours,
    peers,
)  # fmt: skip
from benchmarks.host.verdicts import judge, no_verdict

COLUMNS = (
    "server", "payload", "connections", "requests/s", "of raw limit", "CPU efficiency", "p50 ms",
    "p99 ms", "max ms", "errors", "server CPU µs/request", "wrk CPU µs/request", "foreign CPU",
    "PSS MiB", "RSS MiB", "cold start s", "runs",
)  # fmt: skip


WORDS = {True: "pass", False: "**FAIL**", None: ""}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in [head, *rows]]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


def write(records: list[Record]) -> str:
    """Write the whole report."""
    parts = [verdict_table(records), ratio_table(records), each_table(records)]
    parts += [closed_table(records, model) for model in MODELS]
    parts += [*open_tables(records), about_table(records)]
    return "\n".join(part for part in parts if part)


def verdict_table(records: list[Record]) -> str:
    """Show each number beside what was wanted, and how many the machine left without a verdict."""
    found = judge(records)
    passed, open_still = sum(v.passed is True for v in found), sum(v.passed is None for v in found)
    rows = [(v.what, v.measured, v.wanted, WORDS[v.passed]) for v in found]
    head = f"## Numbers: {passed} of {len(found)} reached, {open_still} without a verdict\n\n"
    return head + table(("what", "measured", "wanted", ""), rows) if found else ""


def ratio_table(records: list[Record]) -> str:
    """Show ours beside the best peer and the two limits: the bare loop, and no server at all."""
    rows = []
    counts = sorted({r["connections"] for r in pick(records, what="closed")})
    for model, count in ((model, count) for model in MODELS for count in counts):
        others = peers(records, model, count)
        for payload, runs in ours(records, model, count).items() if others else ():
            name, best = next(iter(others.items()))
            loop = fastest(by_server(records, model, count), BARE_LOOP, payload)
            rate, limit = middle(runs, "rps"), middle(runs, "bare_rows_per_s")
            best_name = f"{name} {middle(best, 'rps'):,.0f}"
            ratios = over(runs, *others.values()), over(runs, loop), f"{rate / limit:.1%}"
            rows.append((model, str(count), payload, f"{rate:,.0f}", best_name, *ratios))
    head = (
        "model", "connections", "payload", "ours, requests/s", "best peer", "ours over it",
        "ours over the bare loop", "ours of the bare session",
    )  # fmt: skip
    return "## Ours, the best peer and the limits\n\n" + table(head, rows) if rows else ""


def each_table(records: list[Record]) -> str:
    """Show ours over every other server in the same encoding, our JSON over its JSON."""
    rows = []
    counts = sorted({r["connections"] for r in pick(records, what="closed")})
    for model, count in ((model, count) for model in MODELS for count in counts):
        mine, groups = ours(records, model, count), by_server(records, model, count)
        for name in sorted({server for server, _ in groups} - {OURS}) if mine else ():
            theirs = {ENCODING[kind]: runs for (server, kind), runs in groups.items()
                      if server == name}  # fmt: skip
            ratios = (over(mine.get(kind, []), theirs.get(kind, [])) for kind in OUR_PAYLOADS)
            rows.append((model, str(count), name, *ratios))
    head = ("model", "connections", "server", *OUR_PAYLOADS)
    return "## Ours over each in the same encoding\n\n" + table(head, rows) if rows else ""


def over(mine: Runs, best: Runs, *others: Runs) -> str:
    """Write how many times the best of others we are, or why that cannot be said."""
    if not mine or not best:
        return ""
    ratio = f"{middle(mine, 'rps') / middle(best, 'rps'):.2f} ×"
    return no_verdict([mine, best, *others]) or ratio


def closed_table(records: list[Record], model: str) -> str:
    """Show every server under wrk, medians of undisturbed runs, fastest first."""
    mine = pick(records, what="closed", model=model)
    if not mine:
        return ""
    limit = middle(mine, "bare_rows_per_s")
    head = (
        f"## {model}: raw limit {limit:,.0f} rows/s on {mine[0]['cores']} cores,"
        f" bare run {middle(mine, 'bare_run_ms'):.3f} ms\n\n"
    )
    rows = []
    for count in sorted({r["connections"] for r in mine}):
        groups = by_server(records, model, count).items()
        for key, runs in sorted(groups, key=lambda group: -middle(group[1], "rps")):
            rows.append((*key, str(count), *figures(runs, limit)))
    return head + table(COLUMNS, rows)


def figures(runs: list[Record], limit: float) -> list[str]:
    """Sum up one server's runs."""
    rate = middle(runs, "rps")
    return [
        f"{rate:,.0f}", f"{rate / limit:.1%}", f"{cpu_efficiency(runs):.1%}",
        f"{middle(runs, 'p50_ms'):.3f}", f"{middle(runs, 'p99_ms'):.2f}",
        f"{max(r['max_ms'] for r in runs):.1f}", str(sum(r["errors"] for r in runs)),
        f"{middle(runs, 'cpu_us'):.0f}", f"{middle(runs, 'client_us'):.0f}",
        f"{middle(runs, 'foreign'):.0%}{'' if calm(runs) else ', no verdict'}",
        f"{middle(runs, 'pss_mib'):.0f}", f"{middle(runs, 'rss_mib'):.0f}",
        f"{middle(runs, 'cold_s'):.1f}", str(len(runs)),
    ]  # fmt: skip


def open_tables(records: list[Record]) -> Iterator[str]:
    """Show the other kinds of records whole: one column a record."""
    titles = {
        "open": "Open loop: 80 % of capacity, 5 × overload, recovery",
        "loris": "Slow connections",
        "gpu": "GPU",
    }
    for what, title in titles.items():
        if found := pick(records, what=what):
            keys = [key for key in found[0] if key not in ("what", "at", "cores")]
            rows = [(key.replace("_", " "), *(show(r.get(key)) for r in found)) for key in keys]
            yield f"## {title}\n\n" + table(["", *map(str, range(1, len(found) + 1))], rows)


def about_table(records: list[Record]) -> str:
    """Show what was measured: software with versions, settings, the load generator's too."""
    found = group(pick(records, what="about"), "server", "software", "settings")
    rows = [
        (*key, ", ".join(dict.fromkeys(r["model"] for r in alike))) for key, alike in found.items()
    ]
    head = ("server", "software", "settings", "models")
    return "## What was measured\n\n" + table(head, rows) if rows else ""


def show(value: object) -> str:
    """Write a value with the digits that mean something."""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
