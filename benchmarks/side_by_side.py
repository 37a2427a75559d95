"""Run two pipelines and a local `dvc repro` at the same time, again and again, and count failures.

    python benchmarks/side_by_side.py [--rounds N] [--seed S]

A small project with two pipelines of six stages each, a Prefect server and a worker. Each round
makes every stage of both stale, and starts three things at random moments of two seconds: a run of
each pipeline, and `dvc repro` in the checkout. First the runs are triggered on the server, where
each has a git worktree; then they are `slipway build` in the same folder as `dvc repro`. All have
to succeed; to wait for each other is no failure. Prints how each ended and what it took.
"""

import argparse
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.flow_project import STAGES  # noqa: E402  importable from here on
from tests.prefect_server import PrefectServer  # noqa: E402
from tests.support.ports import free_ports  # noqa: E402
from tests.system.test_prefect import Committed, Prefect  # noqa: E402

PIPELINES = ("one", "two")
SPREAD_S = 2.0
"""The three start at random moments of this time."""

BUSY = re.compile(r"is busy|Unable to acquire lock|rwlock|blocked by")
"""In what a command says that failed on a lock of DVC's."""


@dataclass(frozen=True)
class Run:
    """How one of the three ended."""

    way: str
    name: str
    seconds: float
    ended: str


class Site:
    """A project of two pipelines, its server and worker."""

    def __init__(self, folder: Path) -> None:
        """Start all of it."""
        self.project = Committed(folder / "project", *PIPELINES)
        self.project.fleet(free_ports(4))
        self.project.take_code()
        self.project.commit()
        (folder / "server").mkdir()
        self._server = PrefectServer(folder / "server", self.project.environment())
        self.prefect = Prefect(self.project, self._server)
        self.prefect.run("slipway deployments apply")
        self.prefect.start_worker_and_wait()

    def close(self) -> None:
        """End what was started."""
        self.prefect.stop()
        self._server.stop()

    def triggered(self, pipeline: str) -> str:
        """Have the worker build a pipeline."""
        run = self.prefect.trigger("manual", pipeline=pipeline, build_only=True)
        state = self.prefect.ended(run)
        return (
            "succeeded" if state["type"] == "COMPLETED" else f"{state['name']}: {state['message']}"
        )

    def built(self, pipeline: str) -> str:
        """Build a pipeline in the checkout."""
        return self._command("-m", "flows.commands.deliver", pipeline, "--build-only")

    def reproduced(self, _: str) -> str:
        """Run `dvc repro` in the checkout."""
        return self._command("-m", "dvc", "repro")

    def _command(self, *words: str) -> str:
        environment = self.project.environment(PREFECT_API_URL=self._server.api)
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.project.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return "succeeded"
        said = done.stdout + done.stderr
        return "failed on a lock" if BUSY.search(said) else f"failed: {said[-300:]}"


def main() -> None:
    """Run the rounds of both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    choose = random.Random(options.seed)
    found: list[Run] = []
    with tempfile.TemporaryDirectory() as scratch:
        site = Site(Path(scratch))
        try:
            # the source pins: a bare `dvc repro` has them or says what writes them
            for pipeline in PIPELINES:
                assert site.built(pipeline) == "succeeded"
            site.project.commit()
            for way, start in (("triggered", site.triggered), ("at the desk", site.built)):
                for _ in range(options.rounds):
                    found += one_round(site, way, start, choose)
                    print(*(f"{r.way} {r.name}: {r.ended}" for r in found[-3:]), sep="; ")
        finally:
            site.close()
    report(found)


def one_round(
    site: Site, way: str, start: Callable[[str], str], choose: random.Random
) -> list[Run]:
    """Start the three, and wait for all."""
    for stage in STAGES:
        site.project.touch(stage, f"{way} {choose.random()}")
    found: list[Run] = []

    def run(name: str, work: Callable[[str], str], after_s: float) -> None:
        time.sleep(after_s)
        began = time.monotonic()
        ended = work(name)
        found.append(Run(way, name, time.monotonic() - began, ended))

    three = [*((name, start) for name in PIPELINES), ("dvc repro", site.reproduced)]
    threads = [
        threading.Thread(target=run, args=(name, work, choose.uniform(0, SPREAD_S)))
        for name, work in three
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def report(found: list[Run]) -> None:
    """Print how many of each succeeded."""
    print(f"\n{'runs':12} {'what':10} {'succeeded':>10} {'on a lock':>10} {'median':>8}")
    for way in dict.fromkeys(run.way for run in found):
        for name in (*PIPELINES, "dvc repro"):
            those = [run for run in found if (run.way, run.name) == (way, name)]
            good = sum(run.ended == "succeeded" for run in those)
            locked = sum(run.ended == "failed on a lock" for run in those)
            median = statistics.median(run.seconds for run in those)
            print(f"{way:12} {name:10} {good:4} of {len(those)} {locked:10} {median:6.1f} s")


if __name__ == "__main__":
    main()
