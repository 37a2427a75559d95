"""Run a model with ONNX Runtime, in one way everywhere.

The gates, `slipway verify` and the host open a model through this module, so what was
proven is what runs.
"""

import ctypes
import os
from pathlib import Path
from typing import Any

import onnxruntime as ort

from slipway.bundle.format import refused
from slipway.bundle.golden import Tensors
from slipway.bundle.graph import check_graph
from slipway.errors import BundleRefused

DATATYPES = {
    "tensor(string)": "BYTES",
    "tensor(bool)": "BOOL",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
}
"""ONNX Runtime's names of types, and those of the Open Inference Protocol."""

ERRORS_ONLY = 3
"""ONNX Runtime's severity; what matters of its warnings is checked and said by us."""


class Session:
    """A loaded model; safe to be run by several threads at once."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.providers: list[str] = session.get_providers()
        """The providers that really run it, the most preferred first."""
        self.inputs: dict[str, str] = _signature(session.get_inputs())
        """Name and datatype of each input."""
        self.outputs: dict[str, str] = _signature(session.get_outputs())
        """Name and datatype of each output."""
        self._names = list(self.outputs)

    def run(self, inputs: Tensors) -> Tensors:
        """Answer a batch; a category is an object array of str."""
        return dict(zip(self._names, self._session.run(self._names, inputs), strict=True))


def open_session(model: bytes | Path, provider: str, threads: int) -> Session:
    """Load a model on exactly this provider, or refuse it.

    ONNX Runtime lists providers that do not work on this machine and falls back to the CPU
    in silence, so the session itself is asked what it runs on. A path is read once: what
    was checked is what is loaded.
    """
    data = model if isinstance(model, bytes) else model.read_bytes()
    with refused("model.onnx"):
        check_graph(data)
    try:
        loaded = ort.InferenceSession(
            data, _options(threads), providers=[provider], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's errors have no common class
        reason = " ".join(str(error).split())
        raise BundleRefused(f"model.onnx: ONNX Runtime cannot load it: {reason}") from None
    session = Session(loaded)
    if session.providers[0] != provider:
        raise BundleRefused(
            f"model.onnx: must run on {provider}, ONNX Runtime chose {session.providers[0]}:"
            " the provider's libraries or its device are missing here"
        )
    return session


def device_memory_bytes(provider: str) -> int:
    """Return the memory of a provider's device that this process may use at most."""
    if provider == "CUDAExecutionProvider":
        return _cuda_memory_bytes()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(memory, int(text)) if text != "max" else memory


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # else bytes that look like ORT's own format bypass check_graph
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _signature(tensors: list[Any]) -> dict[str, str]:
    return {tensor.name: DATATYPES.get(tensor.type, tensor.type) for tensor in tensors}


def _cuda_memory_bytes() -> int:
    """Ask the driver, which is there wherever the CUDA provider works."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    device, size = ctypes.c_int(), ctypes.c_size_t()
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    )
    return 0 if failed else size.value
