"""Time how a scheduled run ends that is cancelled or killed, and when people see it.

    python benchmarks/cancel.py [--rounds N]

Starts a real Prefect server and worker on a small project whose training has ranks that are deaf
to SIGTERM, has the worker start a run, and ends it, each time in another way. Times count from the
request or the kill: until no rank is left, until the flow's process is gone, and until the server
says how the run ended. Prints medians.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from flows.alive import pid_files  # noqa: E402  the repository must be importable first
from tests.prefect_server import PrefectServer  # noqa: E402
from tests.support.ports import free_ports  # noqa: E402
from tests.support.processes import alive  # noqa: E402
from tests.system.test_prefect import (  # noqa: E402
    PIPELINE,
    Committed,
    Prefect,
    running_ranks,
)

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PATIENCE_S = 150.0
SEEN = ("no rank left", "flow gone", "state")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.rounds)
    print(f"| a run ends by | {' | '.join(SEEN)} | which |")
    print("|---|---|---|---|---|")
    for way, rounds in found.items():
        middle = [statistics.median(times[name] for times, _ in rounds) for name in SEEN]
        states = ", ".join(sorted({state for _, state in rounds}))
        print(f"| {way} | {' | '.join(f'{each:.1f} s' for each in middle)} | {states} |")


def measure(folder: Path, rounds: int) -> dict[str, list[tuple[dict[str, float], str]]]:
    """Start everything once; return times and the final state of each round by way."""
    project = Committed(folder / "project", PIPELINE)
    project.fleet(free_ports(4))
    project.take_code()
    project.commit()
    (folder / "server").mkdir()
    server = PrefectServer(folder / "server", project.environment())
    prefect = Prefect(project, server)
    found: dict[str, list[tuple[dict[str, float], str]]] = {}
    try:
        prefect.start_all()
        for _ in range(rounds):
            found.setdefault("cancel", []).append(end(prefect, cancel))
            found.setdefault("kill -9 of its flow", []).append(end(prefect, kill_flow))
            found.setdefault("kill -9 of the worker", []).append(end(prefect, kill_worker))
            prefect.start_worker_and_wait()
    finally:
        prefect.stop()
        server.stop()
    return found


def cancel(prefect: Prefect, run: str, flow: int) -> None:
    """Ask as the UI and `prefect flow-run cancel` do."""
    prefect.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})


def kill_flow(prefect: Prefect, run: str, flow: int) -> None:
    """Give the flow's process no chance."""
    os.kill(flow, signal.SIGKILL)


def kill_worker(prefect: Prefect, run: str, flow: int) -> None:
    """Nor the worker."""
    prefect.kill_worker()


def end(prefect: Prefect, way: Callable[[Prefect, str, int], None]) -> tuple[dict[str, float], str]:
    """Have a run train, end it, and watch."""
    project = prefect.project
    project.touch("train", f"changed at {time.time()}")
    project.knobs({"train": {"ranks": 2, "sleep": 300}})
    run = prefect.trigger("manual", pipeline=PIPELINE, build_only=True)
    ranks = running_ranks(prefect)
    held = pid_files.read(project.root).values()
    (flow,) = (h.content.process.pid for h in held if h.locked)
    began = time.monotonic()
    way(prefect, run, flow)
    seen: dict[str, float] = {}
    state = "?"
    while len(seen) < len(SEEN) and (now := time.monotonic() - began) < PATIENCE_S:
        if not any(map(alive, ranks)):
            seen.setdefault("no rank left", now)
        if not alive(flow):
            seen.setdefault("flow gone", now)
        if (found := prefect.state(run))["type"] in ENDED:
            state = found["name"]
            seen.setdefault("state", now)
        time.sleep(0.1)
    return {name: seen.get(name, float("inf")) for name in SEEN}, state


if __name__ == "__main__":
    main()
