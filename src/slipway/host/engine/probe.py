"""Open a model for the first time in a process of its own, where it may crash or hang.

ONNX and ONNX Runtime are read by a parser in C++, and a graph may ask for terabytes or loop for
ever. So before a version comes near the process that serves, a child opens the verified bytes
and runs the golden rows, under limits of time and memory, without the host's environment and
its secrets. Only then does the host itself open it, and compares the answers with the proof.

A version that got through is remembered in the host's private state, together with what the
verdict depends on: ONNX Runtime's version, the processor, the provider. A restart then loads it
without a probe, which costs a third of a second and the golden rows once more.
"""

import json
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnxruntime as ort

from slipway.bundle.format import canonical_json, short, write_durably
from slipway.bundle.golden import replay_rows
from slipway.bundle.verify import Verified
from slipway.errors import BundleRefused
from slipway.host.request.message import Array
from slipway.provider import CPU

COMMAND: Final = (sys.executable, "-I", "-m", "slipway.host.engine.probe_child")
SAID_MAX: Final = 64_000
"""Bytes of the child's report: it has read what we do not trust yet."""
STEP_S: Final = 1.0
"""The most that a moment in which this process was frozen may count."""
PASSED_ON: Final = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
"""What a GPU's libraries are found by; nothing of it goes to a child that needs the CPU alone."""


@dataclass(frozen=True)
class ProbeLimits:
    """What one probe may take."""

    wall_s: float = 60.0
    """From start to report."""
    memory_bytes: int = 4 << 30
    """Address space beside the model's own needs; not limited for a GPU, whose driver reserves
    terabytes of it."""


def probe(
    verified: Verified, limits: ProbeLimits | None = None, command: Sequence[str] = COMMAND
) -> None:
    """Let a child open the model and run its golden rows; raise BundleRefused if it cannot."""
    limits = limits or ProbeLimits()
    report = os.memfd_create("report", os.MFD_CLOEXEC)
    try:
        reason = _run(verified, limits, command, report)
        said = os.pread(report, SAID_MAX, 0)
    finally:
        os.close(report)
    name = short(verified.manifest.version)
    if reason:
        raise BundleRefused(f"model.onnx: {name} {reason} in the probe")
    try:
        refusal = json.loads(said)["refused"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleRefused(f"model.onnx: {name} left no report in the probe") from None
    if refusal is not None:
        raise BundleRefused(f"{str(refusal)[:1000]} (in the probe)")


def _run(
    verified: Verified, limits: ProbeLimits, command: Sequence[str], report: int
) -> str | None:
    """Run the child; return what became of it, or None if it ended by itself."""
    provider = verified.contract.requires.provider
    names = () if provider == CPU else PASSED_ON
    environment = {name: os.environ[name] for name in names if name in os.environ}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=report,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    ) as child:
        try:
            _finish(child, b"".join(_message(verified, limits)), limits.wall_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return f"was not done after {limits.wall_s:g} s"
        except BaseException:
            child.kill()
            raise
    if child.returncode < 0:
        return f"crashed with signal {-child.returncode}"
    return f"ended with exit code {child.returncode}" if child.returncode else None


def _finish(child: subprocess.Popen[bytes], message: bytes, wall_s: float) -> None:
    """Say everything and wait for the end; raise TimeoutExpired when the time is up.

    Counted in short waits: while this process is frozen no time goes by, and a model is not
    refused for what befell the host.
    """
    left_s, said = wall_s, False
    while True:
        step_s = min(STEP_S, left_s)
        try:
            child.communicate(None if said else message, timeout=step_s)
        except subprocess.TimeoutExpired:
            said, left_s = True, left_s - step_s
            if left_s <= 0:
                raise
        else:
            return


def _message(verified: Verified, limits: ProbeLimits) -> Iterator[bytes]:
    """Say everything through a pipe: a header's length, the header, the model, the tensors."""
    contract = verified.contract
    rows = replay_rows(contract.max_rows)
    batches = [list(inputs.items()) for inputs, _ in verified.golden.batches(rows)]
    blobs = [[_pack(values) for _, values in batch] for batch in batches]
    memory = limits.memory_bytes + 8 * len(verified.model)
    header = {
        "provider": contract.requires.provider,
        "wall_s": limits.wall_s,
        "memory_bytes": memory if contract.requires.provider == CPU else None,
        "model": len(verified.model),
        "batches": [
            [
                {"name": name, "dtype": _dtype(v), "shape": v.shape, "bytes": len(blob)}
                for (name, v), blob in zip(batch, packed, strict=True)
            ]
            for batch, packed in zip(batches, blobs, strict=True)
        ],
    }
    text = json.dumps(header).encode()
    yield struct.pack("<Q", len(text))
    yield text
    yield verified.model
    for packed in blobs:
        yield from packed


def _dtype(values: Array) -> str:
    return "text" if values.dtype == object else values.dtype.str


def _pack(values: Array) -> bytes:
    if values.dtype == object:
        return json.dumps(values.ravel().tolist()).encode()
    return values.tobytes()


class Probed:
    """The versions that got through, in a folder that only this host's user may write to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def knows(self, verified: Verified) -> bool:
        """Tell whether this very version got through here, with all that it depends on."""
        try:
            return self._path(verified.manifest.version).read_bytes() == _facts(verified)
        except OSError:
            return False

    def remember(self, verified: Verified) -> None:
        """Note that a version got through."""
        write_durably(self._path(verified.manifest.version), _facts(verified))

    def forget(self, version: str) -> None:
        """Remove what is noted about a version."""
        self._path(version).unlink(missing_ok=True)

    def _path(self, version: str) -> Path:
        return self._folder / f"{version}.json"


def _facts(verified: Verified) -> bytes:
    facts: Mapping[str, Any] = {
        "version": verified.manifest.version,
        "provider": verified.contract.requires.provider,
        "onnxruntime": ort.__version__,
        "processor": _processor(),
    }
    return canonical_json(facts)


def _processor() -> str:
    """Name the processor as exactly as the kernel does: kernels are chosen by its features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    telling = ("model name", "flags", "Features", "CPU part")
    return "; ".join(dict.fromkeys(line for line in lines if line.startswith(telling)))
