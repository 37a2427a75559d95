"""Measure what runs cost that find nothing to do: python benchmarks/nothing_to_do.py [--repeat N]

Clones this checkout's HEAD into an empty folder, gives it ports of its own and runs the whole line
there once. Then `dvc repro`, `slipway build` and `slipway run` take turns, so that a noisy minute
hits all alike: first with no Prefect server anywhere, then with one that runs. Prints the medians,
and what they are held to. With `--project ROOT --fleet F`, measures a project where that has been
done already.
"""

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from line import clone, command, free_port

WARM_UP = 1
"""Turns that are not counted: files come from the disk, bytecode is compiled."""

ALONE_S = 8.0
"""What `slipway run` may take without a server."""


@dataclass(frozen=True)
class Turn:
    """What one command took once."""

    wall_s: float
    cpu_s: float
    """Of all its processes: what it would take on a machine that nobody else uses."""


@dataclass(frozen=True)
class Measured:
    """What each command took, turn by turn."""

    server: bool
    turns: dict[str, list[Turn]]

    def rows(self) -> Iterator[str]:
        """Write a table row per command."""
        where = "with a Prefect server" if self.server else "without"
        repro_s = statistics.median(turn.wall_s for turn in self.turns["dvc repro"])
        for name, turns in self.turns.items():
            median_s = statistics.median(turn.wall_s for turn in turns)
            wanted_s = 3 * repro_s + 2 if self.server else ALONE_S
            wanted = f"<= {wanted_s:.1f} s" if name == "slipway run" else ""
            yield (
                f"| {where} | `{name}` | {median_s:.1f} s | {max(t.wall_s for t in turns):.1f} s"
                f" | {statistics.median(t.cpu_s for t in turns):.1f} s"
                f" | {median_s / repro_s:.1f} | {wanted} |"
            )


def main() -> None:
    """Measure both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="turns that are counted")
    parser.add_argument("--project", type=Path, help="a checkout where the line has been run")
    parser.add_argument("--fleet", default="local", help="its fleet")
    options = parser.parse_args()
    with _project(options.project, options.fleet) as root:
        print("| server | command | median | worst | CPU | x dvc repro | wanted |")
        print("|---|---|---|---|---|---|---|")
        _show(measure(root, options.fleet, options.repeat))
        with _prefect_server(root):
            _show(measure(root, options.fleet, options.repeat, server=True))


def _show(measured: Measured) -> None:
    """Write what is known at once: the rest takes minutes."""
    print("\n".join(measured.rows()), flush=True)
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{cores} cores, load {load:.1f}", file=sys.stderr, flush=True)


def measure(root: Path, fleet: str, repeat: int, *, server: bool = False) -> Measured:
    """Let the three commands take turns."""
    slipway = (sys.executable, "-m", "slipway.cli")
    commands = {
        "dvc repro": (sys.executable, "-m", "dvc", "repro", "--quiet"),
        "slipway build": (*slipway, "build", "flights"),
        "slipway run": (*slipway, "run", "flights", "--fleet", fleet),
    }
    turns: dict[str, list[Turn]] = {name: [] for name in commands}
    for number in range(WARM_UP + repeat):
        for name, words in commands.items():
            took = _take_turn(root, *words)
            if number >= WARM_UP:
                turns[name].append(took)
    return Measured(server, turns)


def _take_turn(root: Path, *words: str) -> Turn:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    began, used = time.perf_counter(), _cpu_of_children_s()
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words[2:])}: exit code {done.returncode}\n{done.stderr}")
    return Turn(time.perf_counter() - began, _cpu_of_children_s() - used)


def _cpu_of_children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def _project(given: Path | None, fleet: str) -> Iterator[Path]:
    """Take a project that was run, or make one and run it."""
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = clone(Path(scratch) / "line")
        try:
            done = command(root, "run", "flights", "--fleet", fleet)
            if done.returncode:
                sys.exit(f"slipway run flights: exit code {done.returncode}")
            yield root
        finally:
            command(root, "fleet", "down", fleet)


@contextlib.contextmanager
def _prefect_server(root: Path) -> Iterator[None]:
    """Run a Prefect server, and have the commands find it."""
    port = free_port()
    home = root / ".slipway/prefect-server"
    home.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}/api"
    ours = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    words = [sys.executable, "-m", "prefect", "server", "start", "--no-ui", "--port", str(port)]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            words, env={**os.environ, **ours, "PREFECT_API_URL": url}, stdout=log, stderr=log
        )
        try:
            _wait_for(url, server)
            os.environ["PREFECT_API_URL"] = url
            yield
        finally:
            os.environ.pop("PREFECT_API_URL", None)
            server.terminate()
            server.wait()


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    import httpx

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{url}/health", trust_env=False, timeout=5).raise_for_status()
            return
        time.sleep(0.2)
    sys.exit("the Prefect server did not come up")


if __name__ == "__main__":
    main()
