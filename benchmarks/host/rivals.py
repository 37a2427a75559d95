"""The peers: how each is installed and started. A new one is a line here and a module in peers/."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.host.servers import Server

PEERS = Path(__file__).parent / "peers"
V2 = "/v2/models/{model}/infer"


@dataclass(frozen=True)
class Peer:
    """One peer in one setting."""

    environment: str
    """Its virtual environment, requirements file and module go by this name."""
    payloads: tuple[str, ...]
    path: str = "/predict"
    settings: dict[str, str] = field(default_factory=dict)
    one_thread: bool = False
    """It runs the model from many threads or processes at once, so each run gets one thread."""


RIVALS = {
    "fastapi": Peer("fastapi", ("flat",), one_thread=True),
    "fastapi-2w": Peer("fastapi", ("flat",), settings={"WORKERS": "2"}, one_thread=True),
    "pytriton": Peer("pytriton", ("json", "binary"), V2),
    "kserve": Peer("kserve", ("json", "binary"), V2),
    "mlserver": Peer("mlserver", ("json",), V2),
    "bentoml": Peer("bentoml", ("rows",)),
    "litserve": Peer("litserve", ("flat",)),
    "ray": Peer("ray", ("flat",)),
    "mlserver-1w": Peer("mlserver", ("json",), V2, {"WORKERS": "2"}),
    "litserve-zmq": Peer("litserve", ("flat",), settings={"FAST_QUEUE": "1"}),
    "litserve-0ms": Peer("litserve", ("flat",), settings={"DELAY_MS": "0"}),
}
CONTENDERS = ("fastapi", "fastapi-2w", "pytriton", "kserve", "mlserver")
"""Those that were best at something on 2026-11-20, so the ones that decide a ratio."""
QUICK = CONTENDERS[1:]
"""Without the one that another setting of itself stands for."""
EVERY = ("fastapi", "fastapi-2w", "pytriton", "kserve", "mlserver", "bentoml", "litserve", "ray")
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
    environment = {
        "ORT_THREADS": "1" if model == "mlp" or peer.one_thread else "2",
        "MODEL": model,
        "MODELS": str(models),
        "PORT": str(port),
        "PYTHONPATH": str(PEERS),  # its processes import `specs` and `settings` by name
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        **peer.settings,
    }
    url = f"http://127.0.0.1:{port}{peer.path.format(model=model)}"
    command = (str(python), f"serve_{peer.environment}.py")
    return Server(name, model, url, peer.payloads, command, environment, PEERS)


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
