"""Measure what the flow adds to a stage that runs, beside `dvc repro` of the same stages.

    python benchmarks/orchestration.py [--rounds N]

Builds a small project of six stages that do next to nothing, with a Prefect server at hand: all six
stale or only the last, in turn by `slipway build` and by `dvc repro`. What a command costs once
falls out of the difference: (six stages - one stage) / 5 is what it takes a stage.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.flow_project import PIPELINE, STAGES, Project  # noqa: E402  importable from here on
from tests.prefect_server import PrefectServer  # noqa: E402

LAST = list(STAGES)[-1]
LIMIT_S = 1.0
"""What the project promises."""

COMMANDS = {
    "slipway build": ["-m", "flows.commands.deliver", PIPELINE, "--build-only"],
    "dvc repro": ["-m", "dvc", "repro"],
}


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    taken: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        project = Project(folder / "project")
        (folder / "server").mkdir()
        server = PrefectServer(folder / "server", project.environment())
        try:
            environment = project.environment(PREFECT_API_URL=server.api)
            run(
                project, COMMANDS["slipway build"], environment
            )  # the source pin, and DVC's folders
            for round_ in range(options.rounds):
                for name, command in COMMANDS.items():
                    for stages in (STAGES, [LAST]):
                        for stage in stages:
                            project.touch(stage, f"{name} {round_} {len(stages)}")
                        seconds = run(project, command, environment)
                        taken.setdefault((name, len(stages)), []).append(seconds)
                print(f"round {round_ + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}")
        finally:
            server.stop()
    report(taken)


def run(project: Project, command: list[str], environment: dict[str, str]) -> float:
    """Run a command to its end and return how long it took."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=project.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began


def report(taken: dict[tuple[str, int], list[float]]) -> None:
    """Print medians, and what a stage takes of each command."""
    many = len(STAGES)
    per_stage = {}
    print(f"\n{'':14} {f'{many} stages':>10} {'1 stage':>9} {'a stage':>9}")
    for name in COMMANDS:
        six, one = (statistics.median(taken[name, number]) for number in (many, 1))
        per_stage[name] = (six - one) / (many - 1)
        print(f"{name:14} {six:8.2f} s {one:7.2f} s {per_stage[name]:7.2f} s")
    adds = per_stage["slipway build"] - per_stage["dvc repro"]
    print(f"\nthe flow adds {adds:.2f} s to a stage that runs; wanted: at most {LIMIT_S:g} s")


if __name__ == "__main__":
    main()
