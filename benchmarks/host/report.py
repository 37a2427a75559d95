"""Records as markdown: the verdicts first, then everything that was measured."""

from collections.abc import Iterator, Sequence

from benchmarks.host.records import Record, middle, pick
from benchmarks.host.verdicts import (
    MODELS,
    best_peer,
    by_server,
    cpu_efficiency,
    judge,
    ours,
)  # fmt: skip

COLUMNS = (
    "server", "payload", "connections", "requests/s", "of raw limit", "CPU efficiency", "p50 ms",
    "p99 ms", "max ms", "errors", "server CPU µs/request", "wrk CPU µs/request", "foreign CPU",
    "PSS MiB", "RSS MiB", "cold start s", "runs",
)  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in [head, *rows]]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


def write(records: list[Record]) -> str:
    """Write the whole report."""
    parts = [verdict_table(records), ratio_table(records)]
    parts += [closed_table(records, model) for model in MODELS]
    parts += list(open_tables(records))
    return "\n".join(part for part in parts if part)


def verdict_table(records: list[Record]) -> str:
    """Show each number beside what was wanted."""
    found = judge(records)
    passed = sum(v.passed for v in found)
    rows = [(v.what, v.measured, v.wanted, "pass" if v.passed else "**FAIL**") for v in found]
    head = f"## Numbers: {passed} of {len(found)} reached\n\n"
    return head + table(("what", "measured", "wanted", ""), rows) if found else ""


def ratio_table(records: list[Record]) -> str:
    """Show ours over the best peer, per model, payload and number of connections."""
    rows = []
    counts = sorted({r["connections"] for r in pick(records, what="closed")})
    for model in MODELS:
        for count in counts:
            peer = best_peer(records, model, count)
            for payload, runs in ours(records, model, count).items() if peer else ():
                rate = middle(runs, "rps")
                ratio = f"{rate / peer[1]:.1f} ×"
                best = f"{peer[0]} {peer[1]:,.0f}"
                rows.append((model, str(count), payload, f"{rate:,.0f}", best, ratio))
    head = ("model", "connections", "payload", "ours, requests/s", "best peer", "ratio")
    return "## Ours over the best peer\n\n" + table(head, rows) if rows else ""


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
        f"{middle(runs, 'foreign'):.0%}", f"{middle(runs, 'pss_mib'):.0f}",
        f"{middle(runs, 'rss_mib'):.0f}", f"{middle(runs, 'cold_s'):.1f}", str(len(runs)),
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


def show(value: object) -> str:
    """Write a value with the digits that mean something."""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
