"""Kill something at a random moment of a run, again and again, and see what becomes of it.

    python benchmarks/kills.py [--rounds N] [--seed S] [--seconds S] [--only VICTIM]

Builds a small project with the real stages once, undisturbed. Then, each round: everything that was
built is removed, a run starts (`dvc repro`, `slipway build`, or a Prefect worker's), one victim is
killed by SIGKILL at a random moment, and two seconds later whatever is left of the run is counted
(after a rank's death: two seconds after the run's end, as torchrun starts its ranks anew). A run of
the same kind then goes on to its end, where the version must be that of the undisturbed
one. Prints a table by victim.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from slipway.bundle.format import short  # noqa: E402  the repository must be importable first
from slipway.bundle.manifest import payload_version  # noqa: E402
from slipway.processes.supervise import descendants  # noqa: E402
from tests.prefect_server import PrefectServer  # noqa: E402
from tests.project import IDENTITY, make_project, pin  # noqa: E402
from tests.support.processes import alive, end  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

PIPELINE = "flights"
LEFT_S = 2.0
"""How long after the kill something of the run may still be there."""

NAMES = {
    "supervisor": "supervise.py",
    "guard": "slipway guard of",
    "dvc": "-m dvc",
    "runner": "-m tasks ",
    "torchrun": "torch.distributed.run",
    "rank": "tasks.train.worker",
}
"""What stands in the command line of each kind of process."""

WAYS = {
    "flow": ("slipway build",),
    "supervisor": ("slipway build",),
    "guard": ("slipway build",),
    "dvc": ("slipway build", "dvc repro"),
    "runner": ("slipway build", "dvc repro"),
    "torchrun": ("slipway build", "dvc repro"),
    "rank": ("slipway build", "dvc repro"),
    "all": ("slipway build", "dvc repro", "worker"),
    "worker": ("worker",),
}
"""Victims, and the kinds of run that have them."""


SURVIVED = {"rank"}
"""Victims whose death a run survives: torchrun starts its ranks anew, from the last checkpoint."""


@dataclass(frozen=True)
class Round:
    """One kill and what became of it."""

    victim: str
    way: str
    at_s: float
    killed: int
    left: int
    version: str
    said: str = ""


class Site:
    """A project, a Prefect server, and a worker where one is wanted."""

    def __init__(self, folder: Path) -> None:
        """Make the project and start the server."""
        self.root = make_project(folder / "project")
        pin(self.root)
        shutil.copy(REPOSITORY / "prefect.yaml", self.root)
        shutil.copytree(REPOSITORY / "configs/pools", self.root / "configs/pools")
        self._git("add", ".")
        self._git("commit", "--quiet", "--message", "Pinned")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "SLIPWAY"))}
        (folder / "server").mkdir()
        self._server = PrefectServer(folder / "server", kept)
        self.environment = kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "PREFECT_API_URL": self._server.api,
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        self._log = (folder / "said.log").open("wb")
        self.log = folder / "said.log"
        self._worker: subprocess.Popen[bytes] | None = None
        self._run(["-m", "slipway.cli", "deployments", "apply"])

    def close(self) -> None:
        """End the server and the worker."""
        if self._worker:
            end(self._worker)
        self._server.stop()
        self._log.close()

    def reset(self) -> None:
        """Remove all that was built, and all that tells of it; the pin stays."""
        rooms = ("checkpoints", "runs", "worktrees")
        for path in (".dvc/cache", "models", *(f".slipway/{room}" for room in rooms)):
            shutil.rmtree(self.root / path, ignore_errors=True)
        for path in (self.root / "data" / PIPELINE).iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        (self.root / "dvc.lock").unlink(missing_ok=True)
        self._git("worktree", "prune")
        for branch in self._git(
            "branch", "--list", "slipway/*", "--format=%(refname:short)"
        ).split():
            self._git("branch", "-D", branch)

    def start(self, way: str) -> "Started":
        """Start a run of this kind."""
        if way == "worker":
            return self._start_in_worker()
        if way == "dvc repro":
            process = self._popen(["-m", "dvc", "repro"])
        else:
            process = self._popen(["-m", "flows.commands.deliver", PIPELINE, "--build-only"])
        return Started(process.pid, lambda: process.poll() is not None, process)

    def version(self) -> str:
        """Return the version of the payload that was built here last, or in a worker's run."""
        payload = self.root / "models" / PIPELINE / "payload"
        if payload.is_dir():
            return payload_version(payload)
        records = sorted((self.root / ".slipway/runs").glob("2*/run.json"))
        return str(json.loads(records[-1].read_text())["version"]) if records else "none"

    def _start_in_worker(self) -> "Started":
        if self._worker is None or self._worker.poll() is not None:
            self._worker = self._popen(["-m", "slipway.cli", "worker"])
        with httpx.Client(base_url=self._server.api, trust_env=False, timeout=60) as server:
            found = server.get("/deployments/name/deliver/manual").raise_for_status().json()
            asked = {"parameters": {"pipeline": PIPELINE, "build_only": True}}
            url = f"/deployments/{found['id']}/create_flow_run"
            run = server.post(url, json=asked).raise_for_status().json()["id"]
        worker = self._worker

        def ended() -> bool:
            with httpx.Client(base_url=self._server.api, trust_env=False, timeout=60) as server:
                state = server.get(f"/flow_runs/{run}").json()["state"]["type"]
            return state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

        wait_until(lambda: descendants(worker.pid), "the worker has started the run", 120)
        return Started(worker.pid, ended, None)

    def _popen(self, arguments: list[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def _run(self, arguments: list[str]) -> None:
        process = self._popen(arguments)
        if process.wait() != 0:
            raise SystemExit(f"{arguments} failed: {self.log.read_text()[-2000:]}")

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *IDENTITY, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Started:
    """A run at work: the process above it, and whether it is over."""

    pid: int
    over: Callable[[], bool]
    process: "subprocess.Popen[bytes] | None"


def main() -> None:
    """Build, kill, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--only", choices=sorted(WAYS), help="one kind of victim")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        site = Site(Path(scratch))
        try:
            rounds = run(site, options)
        finally:
            site.close()
    report(rounds)


def run(site: Site, options: argparse.Namespace) -> list[Round]:
    """Do the undisturbed run and the others."""
    began = time.monotonic()
    lasting: dict[str, float] = {}
    expected = ""
    for way in ("slipway build", "dvc repro", "worker"):
        site.reset()
        since = time.monotonic()
        finish(site, way)
        lasting[way] = time.monotonic() - since
        expected = expected or site.version()
        if site.version() != expected:
            raise SystemExit(f"undisturbed {way}: v{site.version()}; see {site.log}")
        print(f"undisturbed {way}: {lasting[way]:.1f} s, v{short(site.version())}", flush=True)
    choose = random.Random(options.seed)
    rounds: list[Round] = []
    while len(rounds) < options.rounds and time.monotonic() - began < options.seconds:
        victim = options.only or list(WAYS)[len(rounds) % len(WAYS)]
        way = choose.choice(WAYS[victim])
        if (done := one_round(site, (victim, way), lasting[way], choose)) is None:
            continue  # it was over before its victim appeared
        rounds.append(done)
        right = "same version" if done.version == expected else f"v{short(done.version)}"
        print(
            f"{len(rounds):3} {done.way:13} {done.victim:10} at {done.at_s:5.1f} s:"
            f" {done.killed} killed, {done.left} left, {right} {done.said}",
            flush=True,
        )
    return [*rounds, Round("", "", 0, 0, 0, expected)]


def one_round(
    site: Site, what: tuple[str, str], lasts_s: float, choose: random.Random
) -> Round | None:
    """Kill a victim at a random moment, count what is left, and let another run finish."""
    victim, way = what
    site.reset()
    started = site.start(way)
    began = time.monotonic()
    moment = began + choose.uniform(0.2, 0.9) * lasts_s
    victims: list[int] = []
    while not started.over():
        if time.monotonic() >= moment and (victims := find(victim, started.pid)):
            break
        time.sleep(0.02)
    if not victims:
        return None
    at_s = time.monotonic() - began
    below = descendants(started.pid)
    everything = (
        [started.pid, *below]
        if victim in ("flow", "all", "worker") or way == "dvc repro"
        else below
    )
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
    if started.process and started.pid in victims:
        started.process.wait()
    if (
        victim in SURVIVED
    ):  # what it belonged to starts it anew and goes on: then nothing is left over
        below = await_end(started, below)
        everything = [started.pid, *below] if way == "dvc repro" else below
    time.sleep(LEFT_S)
    # a flow whose stage was killed lives on to tell of it; what it had started is to be gone
    tells = way == "slipway build" and victim not in ("flow", "all")
    own = {started.pid} if tells else set()
    left = [pid for pid in everything if alive(pid) and pid not in own]
    said = ", ".join(command_of(pid)[:60] for pid in left)
    if started.process:
        started.process.wait()
    else:
        with suppress(AssertionError):
            wait_until(started.over, "the run is over", 30)
    finish(site, way)
    return Round(victim, way, at_s, len(victims), len(left), site.version(), said)


def await_end(started: Started, below: list[int]) -> list[int]:
    """Wait until a run is over; return all that was ever seen below it."""
    seen = set(below)

    def over() -> bool:
        seen.update(descendants(started.pid))
        return started.over()

    wait_until(over, "the run that survives its victim is over", 600)
    return sorted(seen)


def finish(site: Site, way: str) -> None:
    """Run to the end; after a worker's death its next start ends what it left Running."""
    started = site.start(way)
    wait_until(started.over, f"{way} ends; see {site.log}", 900)


def find(victim: str, pid: int) -> list[int]:
    """Return the processes of this kind that there are now."""
    if victim in ("flow", "worker"):
        return [pid]
    below = descendants(pid)
    if victim == "all":
        return [pid, *below] if len(below) > 3 else []
    return [each for each in below if NAMES[victim] in command_of(each)][:1]


def command_of(pid: int) -> str:
    """Return a process's command line; nothing where it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").replace("\0", " ")
    return ""


def report(rounds: list[Round]) -> None:
    """Print the table."""
    *rounds, undisturbed = rounds
    print(f"\n{'victim':12} {'rounds':>6} {'same version':>13} {'nothing left':>13}")
    counted: Counter[str] = Counter(each.victim for each in rounds)
    for victim, number in counted.items():
        those = [each for each in rounds if each.victim == victim]
        same = sum(each.version == undisturbed.version for each in those)
        clean = sum(each.left == 0 for each in those)
        print(f"{victim:12} {number:6} {same:13} {clean:13}")
    same = sum(each.version == undisturbed.version for each in rounds)
    clean = sum(each.left == 0 for each in rounds)
    print(f"{'all of them':12} {len(rounds):6} {same:13} {clean:13}")


if __name__ == "__main__":
    main()
