"""Our own host as a user would start it: wrap the model, sign, serve.

Contract check, version label and metrics are on, because they are when nothing is said. For the
split to be on there have to be two versions: the model is wrapped twice, with different golden
rows, and the second gets a share of the requests.
"""

import hashlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnxruntime

import slipway
from benchmarks.host.peers.specs import SPECS, rows
from benchmarks.host.rivals import V2
from benchmarks.host.servers import Server
from slipway.bundle.signing import make_key_pair, trust
from slipway.provider import CPU

OURS = "slipway"
REPOSITORY = Path(__file__).resolve().parents[2]
WRAPPING = (REPOSITORY / "src/slipway/bundle", REPOSITORY / "src/slipway/make")
GOLDEN_ROWS = 16
FIRST, SECOND = 7, 8
"""Seeds of the two versions' golden rows."""
SLIPWAY = (sys.executable, "-m", "slipway.cli")


def make_keys(folder: Path) -> None:
    """Make the bench's builder key and let its hosts trust it."""
    keys = folder / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    make_key_pair(keys, "builder")
    trust(keys / "builder.pub", folder / "trusted", "builder")


def wrap(model: str, path: Path, folder: Path, seed: int, provider: str) -> Path:
    """Make a signed bundle with `slipway bundle onnx`, unless this one was made before."""
    out = folder / "bundles" / f"{model}-{seed}-{fingerprint(path, provider)}"
    if (out / "manifest.json").exists():  # written last
        return out
    make_keys(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    golden = out.parent / f"{model}-{seed}.npz"
    np.savez(golden, **{SPECS[model].input: rows(model, GOLDEN_ROWS, seed)})
    command = [*SLIPWAY, "bundle", "onnx", path, "--name", model, "--golden", golden]
    options = ["--out", out, "--key", folder / "keys/builder.key", "--provider", provider]
    done = subprocess.run([*command, *options], cwd=REPOSITORY, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"slipway bundle onnx {path}: exit code {done.returncode}\n{done.stderr}")
    return out


def fingerprint(path: Path, provider: str) -> str:
    """Name what a bundle is made from: the model and the code that wraps it."""
    digest = hashlib.sha256(provider.encode() + path.read_bytes())
    for module in sorted(path for room in WRAPPING for path in room.rglob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()[:12]


def our_host(
    model: str,
    path: Path,
    folder: Path,
    scratch: Path,
    port: int,
    percent: int,
    options: tuple[str, ...] = (),
    provider: str = CPU,
) -> Server:
    """Describe our host with two versions that share the requests, or one where `percent` is 0."""
    seeds = (FIRST, SECOND) if percent else (FIRST,)
    bundles = [wrap(model, path, folder, seed, provider) for seed in seeds]
    given = [str(part) for bundle in bundles for part in ("--bundle", bundle)]
    split = ["--split", f"{model}={percent}"] if percent else []
    own = {"--port": port, "--admin-port": port + 1, "--name": "bench"}
    kept = {"--trusted-keys": folder / "trusted", "--state": mkdtemp(dir=scratch)}
    told = [str(part) for pair in {**own, **kept}.items() for part in pair]
    command = (*SLIPWAY, "host", *given, *split, *told, *options)
    url = f"http://127.0.0.1:{port}{V2.format(model=model)}"
    answering = ("json", "binary")
    software = f"slipway {slipway.__version__}, onnxruntime {onnxruntime.__version__}"
    settings = f"versions: {len(bundles)}, options: {' '.join(options) or 'none'}"
    return Server(
        OURS, model, url, answering, command, {}, REPOSITORY, len(bundles),
        sockets=processes(options), software=software, settings=settings,
    )  # fmt: skip


def processes(options: tuple[str, ...]) -> int:
    """Read from a host's options how many processes it will have."""
    for name, value in pairwise(options):
        if name == "--processes":
            return int(value)
    return 1
