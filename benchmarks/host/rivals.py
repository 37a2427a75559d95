"""The peers: how each is installed and started. A new one is a line here and a module in peers/."""

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.host.servers import Server

PEERS = Path(__file__).parent / "peers"
V2 = "/v2/models/{model}/infer"


@dataclass(frozen=True)
class Peer:
    """One peer in one setting."""

    environment: str
    """Its virtual environment and requirements file go by this name."""
    payloads: tuple[str, ...]
    path: str = "/predict"
    settings: dict[str, str] = field(default_factory=dict)
    module: str = ""
    """What in peers/ serves; `serve_` and the environment where nothing is said."""
    batching: str = "at most 32 rows, 5 ms"
    """How it joins requests into one run."""
    processes: int = 1
    """How many run the model; the cores' threads are shared out among them."""
    packages: tuple[str, ...] = ()
    """What it is made of; all that its requirements name where nothing is said."""
    own_sockets: bool = False
    """Each process listens for itself, so that one can be missing without a sign."""

    @property
    def script(self) -> str:
        """The file that serves."""
        return f"{self.module or f'serve_{self.environment}'}.py"


BY_HAND = {
    "serve_loop": ("httptools", "uvloop"),
    "serve_rsgi": ("granian", "uvloop"),
    "serve_asgi": ("uvicorn", "httptools", "uvloop"),
    "serve_fastapi": ("fastapi", "uvicorn", "httptools", "uvloop"),
}
"""Modules in peers/ and what carries them; all read and write with what comes next."""
CODEC = ("orjson", "numpy", "onnxruntime")


def by_hand(module: str, processes: int, batching: str = "none") -> Peer:
    """Describe a peer of a few lines that somebody wrote with care."""
    return Peer(
        "byhand", ("flat", "raw"), "/{payload}",
        module=module, batching=batching, processes=processes, packages=BY_HAND[module] + CODEC,
        own_sockets=module in ("serve_loop", "serve_rsgi"),
    )  # fmt: skip


BARE_LOOP, READY_MADE = "bare-loop", "granian"
"""The limit of Python by hand, which is no peer; and the fastest server that is for everybody."""
A_TURN = "what a turn of the loop brought"
RIVALS = {
    BARE_LOOP: by_hand("serve_loop", 1, A_TURN),
    "bare-loop-2w": by_hand("serve_loop", 2, A_TURN),
    READY_MADE: by_hand("serve_rsgi", 1),
    "granian-2w": by_hand("serve_rsgi", 2),
    "uvicorn": by_hand("serve_asgi", 1),
    "uvicorn-2w": by_hand("serve_asgi", 2),
    "fastapi": by_hand("serve_fastapi", 1),
    "fastapi-2w": by_hand("serve_fastapi", 2),
    "pytriton": Peer("pytriton", ("json", "binary"), V2),
    "kserve": Peer("kserve", ("json", "binary"), V2, batching="none"),
    "mlserver": Peer("mlserver", ("json",), V2),
    "bentoml": Peer("bentoml", ("rows",), batching="at most 32 rows, adaptive"),
    "litserve": Peer("litserve", ("flat",)),
    "ray": Peer("ray", ("flat",)),
    "mlserver-1w": Peer("mlserver", ("json",), V2, {"WORKERS": "2"}),
    "litserve-zmq": Peer("litserve", ("flat",), settings={"FAST_QUEUE": "1"}),
    "litserve-0ms": Peer(
        "litserve", ("flat",), settings={"DELAY_MS": "0"}, batching="at most 32 rows, 0 ms"
    ),
}
QUICK = ("bare-loop-2w", "granian-2w", "uvicorn-2w", "fastapi-2w", "pytriton")
"""Two processes on two cores each, and the fastest of those that are model servers."""
CONTENDERS = (*QUICK, "granian", "uvicorn", "kserve")
"""And those that a lone request to a larger model is faster with: one process, two threads."""
EVERY = (*CONTENDERS, "bare-loop", "fastapi", "mlserver", "bentoml", "litserve", "ray")
OLD_PYTHON = {"pytriton": "/usr/bin/python3"}
"""PyTriton's Triton stub for 3.11 is older than 3.11.5; Debian 12 has 3.11.2."""


def chosen(names: str) -> list[str]:
    """Resolve `contenders`, `quick`, `all`, `none` or a comma list; name what is unknown."""
    known = {"contenders": CONTENDERS, "quick": QUICK, "all": EVERY, "none": ()}
    picked = list(known.get(names, tuple(names.split(","))))
    unknown = [name for name in picked if name not in RIVALS]
    if unknown:
        sys.exit(f"unknown peers {', '.join(unknown)}; there are {', '.join(RIVALS)}")
    return picked


def rival(name: str, model: str, port: int, environments: Path, models: Path) -> Server:
    """Describe one peer that serves one model."""
    peer = RIVALS[name]
    python = environments / peer.environment / "bin/python"
    threads = "1" if model == "mlp" or peer.processes > 1 else "2"
    environment = {
        "ORT_THREADS": threads,
        "WORKERS": str(peer.processes),
        "MODEL": model,
        "MODELS": str(models),
        "PORT": str(port),
        "PYTHONPATH": str(PEERS),  # its processes import `specs` and `settings` by name
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        **peer.settings,
    }
    path = peer.path.format(model=model, payload="{payload}")
    settings = f"processes: {peer.processes}, threads a run: {threads}, batches: {peer.batching}"
    return Server(
        name, model, f"http://127.0.0.1:{port}{path}", peer.payloads, (str(python), peer.script),
        environment, PEERS, sockets=peer.processes if peer.own_sockets else 0,
        software=software(peer, environments), settings=settings,
    )  # fmt: skip


def is_setting_of(peer: str, name: str) -> bool:
    """Say whether a name is a peer's or that of a further setting of it."""
    return name == peer or name.startswith(f"{peer}-")


def software(peer: Peer, environments: Path) -> str:
    """Say which versions of what it is made of a peer's environment holds."""
    lines = (PEERS / "requirements" / f"{peer.environment}.txt").read_text().splitlines()
    required = [match[0] for line in lines if (match := re.match(r"[\w-]+", line))]
    names = peer.packages or required
    places = map(str, (environments / peer.environment).glob("lib/python3*/site-packages"))
    installed = {found.name: found.version for found in distributions(path=list(places))}
    return ", ".join(f"{name} {installed.get(name, 'missing')}" for name in names)


def set_up(environment: str, environments: Path) -> str:
    """Install one peer unless its stamp says that these requirements are in; say what was done."""
    wanted = PEERS / "requirements" / f"{environment}.txt"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    folder = environments / environment
    stamp, pip = folder / "requirements.sha256", [folder / "bin/python", "-m", "pip"]
    if stamp.exists() and stamp.read_text() == digest:
        return "is there"
    python = OLD_PYTHON.get(environment, getattr(sys, "_base_executable", sys.executable))
    subprocess.run([python, "-m", "venv", folder], check=True)
    install = [*pip, "install", "--quiet", "--disable-pip-version-check"]
    lines = wanted.read_text().splitlines()
    first = [line for line in lines if line.startswith("torch==")]  # alone: takes a CPU build
    if first:
        subprocess.run([*install, *first], check=True)
    subprocess.run([*install, "-r", wanted], check=True)
    stamp.write_text(digest)
    return "installed"


def missing(names: list[str], environments: Path) -> list[str]:
    """List the environments that `setup` has yet to make."""
    wanted = {RIVALS[name].environment for name in names}
    return sorted(e for e in wanted if not (environments / e / "requirements.sha256").exists())
