"""Measure the whole line on the real flights: python benchmarks/line.py [--repeat N]

Clones this checkout's HEAD into an empty folder, gives it ports of its own, and runs
`slipway run flights` there: first from nothing, then with nothing changed (N times), then with one
training parameter changed. Prints the table that stands in README.md.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run the three ways and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, help="runs with nothing changed")
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as scratch:
        root = clone(Path(scratch) / "line")
        try:
            first_s = run(root)
            record, facts = last_run(root), measured(root)
            again_s = [run(root) for _ in range(repeat)]
            skipped = last_run(root)
            path = root / "configs/flights.yaml"
            path.write_text(path.read_text().replace("weight_decay: 0.05", "weight_decay: 0.06"))
            changed_s = run(root)
            changed = last_run(root)
        finally:
            command(root, "fleet", "down", "local")
    stages = {s["stage"]: s["seconds"] for s in record["stages"]}
    rows = [
        ("first run, from raw CSV to two live hosts", f"{first_s:.0f} s", "< 300 s"),
        ("run again, nothing changed", f"{statistics.median(again_s):.1f} s", "< 30 s"),
        ("stages run again then", str(sum(s["state"] == "ran" for s in skipped["stages"])), "0"),
        ("one training parameter changed, to promoted", f"{changed_s:.0f} s", ""),
        ("stages run again then", ", ".join(ran(changed)), "training and after"),
        *facts,
    ]
    print(f"\n{len(os.sched_getaffinity(0))} cores; stages of the first run, seconds:")
    print("  " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items()) + "\n")
    print("| what | measured | wanted |\n|---|---|---|")
    for what, value, wanted in rows:
        print(f"| {what} | {value} | {wanted} |")


def clone(root: Path) -> Path:
    """Clone HEAD and move its local fleet to free ports."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(root)], check=True)
    path = root / "configs/fleets/local.yaml"
    fleet = yaml.safe_load(path.read_text())
    for host in fleet["hosts"]:
        host |= {name: free_port() for name in ("port", "grpc_port", "admin_port")}
    path.write_text(yaml.safe_dump(fleet))
    return root


def free_port() -> int:
    """Find a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line tool of the clone."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    return subprocess.run(
        [sys.executable, "-m", "slipway.cli", *arguments],
        cwd=root, env=environment, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip


def run(root: Path) -> float:
    """Run the line; return its wall time in seconds."""
    start = time.perf_counter()
    done = command(root, "run", "flights")
    if done.returncode:
        sys.exit(f"slipway run flights: exit code {done.returncode}")
    return time.perf_counter() - start


def last_run(root: Path) -> dict[str, Any]:
    """Read the record of the run that has just ended."""
    record: dict[str, Any] = json.loads((root / ".slipway/runs/latest/run.json").read_text())
    return record


def ran(record: dict[str, Any]) -> list[str]:
    """Name the stages that ran."""
    names = [s["stage"] for s in record["stages"] if s["state"] == "ran"]
    return sorted({re.sub(r"@.*", "", name) for name in names} - {"release", "publish"})


def measured(root: Path) -> list[tuple[str, str, str]]:
    """Read what the stages measured."""
    models, data = root / "models/flights", root / "data/flights"
    metrics = json.loads((models / "evaluation/metrics.json").read_text())
    gates = json.loads((models / "gates/gates.json").read_text())
    network = json.loads((models / "network/fp32/export.json").read_text())
    trees = json.loads((models / "trees/fp32/export.json").read_text())
    choice = json.loads((models / "evaluation/choice.json").read_text())
    timing = json.loads((root / ".slipway/reports/flights/prove.json").read_text())["latency"]
    rows = json.loads((data / "raw/table.json").read_text())
    families, base = metrics["families"], metrics["base"]
    better = choice["best"]
    other = next(name for name in families if name != better)
    loss = choice["families"][other]["loss"]
    found = [
        ("flights read, labelled", f"{rows['sources']['flights']['rows']:,}, {rows['rows']:,}", ""),
        (
            "AUC in October: network, trees",
            ", ".join(f"{families[name]['auc']:.4f}" for name in ("network", "trees")),
            "",
        ),
        (
            "log loss in October: network, trees, base rate",
            ", ".join(f"{families[name]['log_loss']:.4f}" for name in ("network", "trees"))
            + f", {base['log_loss']:.4f}",
            "",
        ),
        (
            f"AUC that {other} loses to {better} on the days that choose (95 of 100)",
            f"{loss['value']:.4f} ({loss['low']:.4f} to {loss['high']:.4f})",
            "",
        ),
        (
            "largest difference of a graph from what was trained: network, trees",
            f"{max(network['parity'].values()):.1e}, {max(trees['parity'].values()):.1e}",
            "≤ 1e-5",
        ),
        ("candidate chosen", gates["chosen"], ""),
    ]
    for name, result in gates["precisions"].items():
        if name in timing:
            part = timing[name]
            text = f"{part['p50_ms']:.3f} / {part['p99_ms']:.3f} ms, {part['size_bytes']:,} bytes"
            what = f"{name}: p50 / p99 for {part['rows']} rows, size"
            found.append((what, f"{text}, {result['verdict']}", ""))
    return found


if __name__ == "__main__":
    main()
