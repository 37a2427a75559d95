"""The probe's child: set limits, read the model from the pipe, open it, run it, say so.

Started as `python -I -m`, with nothing in its environment. The limits are set before the first
byte of the model is looked at. It imports what opening a model takes and no more, because a
host waits for it.
"""

import ctypes
import json
import resource
import struct
import sys
from typing import Any, Final

import numpy as np

from slipway.bundle.session import Session, open_session
from slipway.errors import BundleRefused
from slipway.host.engine.confine import confine
from slipway.provider import CPU

REPORT_BYTES: Final = 64_000
FILES: Final = 64
PARENT_DEATH_SIGNAL: Final = 1
SIGKILL: Final = 9
"""prctl(2)."""


def main() -> None:
    """Probe one model; the report is the only output."""
    source = sys.stdin.buffer
    (size,) = struct.unpack("<Q", source.read(8))
    header = json.loads(source.read(size))
    _limit(header["wall_s"], header["memory_bytes"])
    if header["provider"] == CPU:  # a GPU's driver opens its devices for writing
        confine()
    model = source.read(header["model"])
    batches = [
        {t["name"]: _unpack(t, source.read(t["bytes"])) for t in batch}
        for batch in header["batches"]
    ]
    refusal = _try(model, header["provider"], batches)
    sys.stdout.write(json.dumps({"refused": refusal}))


def _limit(wall_s: float, memory_bytes: int | None) -> None:
    """Take away what a model has no use for.

    No file may grow beyond a report, and no core dump holds the model. The processor's time has
    a limit of its own in case the parent, which watches the clock, is gone.
    """
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: REPORT_BYTES,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_CPU: int(wall_s) + 1,
        **({resource.RLIMIT_AS: memory_bytes} if memory_bytes is not None else {}),
    }
    for which, most in limits.items():
        hard = resource.getrlimit(which)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (allowed, allowed))
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, SIGKILL, 0, 0, 0)


def _unpack(tensor: dict[str, Any], blob: bytes) -> np.ndarray[Any, Any]:
    if tensor["dtype"] == "text":
        values = np.array(json.loads(blob), dtype=object)
    else:
        values = np.frombuffer(blob, tensor["dtype"])
    return values.reshape(tensor["shape"])


def _try(model: bytes, provider: str, batches: list[dict[str, Any]]) -> str | None:
    """Return why the model cannot be run, or None."""
    try:
        session: Session = open_session(model, provider, 1)
    except BundleRefused as refusal:
        return str(refusal)
    except MemoryError:
        return "model.onnx: needs more memory than a probe may take"
    try:
        for inputs in batches:
            session.run(inputs)
    except Exception as error:  # ONNX Runtime's errors have no common class
        return f"golden.arrow: the model fails on its golden rows: {' '.join(str(error).split())}"
    return None


if __name__ == "__main__":
    main()
