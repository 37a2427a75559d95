"""Run a model with ONNX Runtime, in one way everywhere.

The gates, `slipway verify` and the host open a model through this module, so what was
proven is what runs.
"""

import ctypes
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from slipway.bundle.datatypes import ONNX_BFLOAT16, ORT_TYPES
from slipway.bundle.format import refused
from slipway.bundle.graph import check_graph
from slipway.errors import BundleRefused
from slipway.provider import CUDA, TENSORRT

if TYPE_CHECKING:  # a probe opens sessions in a process of its own, and need not wait for Arrow
    from slipway.bundle.golden import Tensors

FATAL_ONLY = 4
"""ONNX Runtime's severity; errors are raised as well, and said by us, as JSON where logs are."""


QUIET = {"session.intra_op.allow_spinning": "0"}
"""A thread that spins takes the core from another version, or from the requests."""

ONNX_ONLY = {"session.load_model_format": "ONNX"}
"""Else bytes that look like ORT's own format bypass check_graph."""

FALLBACK = {TENSORRT: CUDA}
"""What runs the operators that a provider lacks, before the CPU does."""


@dataclass(frozen=True)
class Tuning:
    """What a host asks of a session beyond the proven way; it must not change answers."""

    provider: Mapping[str, str] = field(default_factory=dict)
    """Options of the provider, by ONNX Runtime's names."""
    session: Mapping[str, str] = field(default_factory=dict)
    """Entries of the session's configuration, by ONNX Runtime's names."""


class Session:
    """A loaded model; safe to be run by several threads at once."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.bare = session
        """ONNX Runtime's own, for whoever binds inputs and outputs to buffers."""
        self.providers: list[str] = session.get_providers()
        """The providers that really run it, the most preferred first."""
        self.inputs: dict[str, str] = _signature(session.get_inputs())
        """Name and datatype of each input."""
        self.outputs: dict[str, str] = _signature(session.get_outputs())
        """Name and datatype of each output."""
        self.shapes: dict[str, list[int]] = _shapes(session)
        """Shape of each input and output; -1: any length."""
        self.about: dict[str, str] = _about(session)
        """What the file says about its making: producer, graph, description."""
        self.options: ort.RunOptions | None = None
        """Of each run that brings none of its own."""
        self._names = list(self.outputs)
        self._bf16_in = [name for name, datatype in self.inputs.items() if datatype == "BF16"]
        self._bf16_out = "BF16" in self.outputs.values()

    def run(self, inputs: "Tensors", options: ort.RunOptions | None = None) -> "Tensors":
        """Answer a batch; text is an object array of str, BF16 an array of uint16 bits.

        The plain call: binding buffers costs as much for one row and more with new ones.
        """
        options = options or self.options
        if self._bf16_in:
            inputs = {**inputs, **{name: _typed(inputs[name]) for name in self._bf16_in}}
        if self._bf16_out:
            return self._run_typed(inputs, options)
        return dict(zip(self._names, self.bare.run(self._names, inputs, options), strict=True))

    def _run_typed(self, inputs: Mapping[str, Any], options: ort.RunOptions | None) -> "Tensors":
        """Run through values that carry ONNX's own type: numpy has no BF16."""
        feeds = {
            name: v
            if isinstance(v, ort.OrtValue)
            else ort.OrtValue.ortvalue_from_numpy(np.asarray(v, order="C"))
            for name, v in inputs.items()
        }
        values = self.bare.run_with_ort_values(self._names, feeds, options)
        return {
            name: _bits(value) if self.outputs[name] == "BF16" else value.numpy()
            for name, value in zip(self._names, values, strict=True)
        }


def open_session(
    model: bytes | Path, provider: str, threads: int, tuning: Tuning | None = None
) -> Session:
    """Load a model on exactly this provider, or refuse it.

    ONNX Runtime lists providers that do not work on this machine and falls back to the CPU
    in silence, so the session itself is asked what it runs on. A path is read once: what
    was checked is what is loaded.
    """
    data = model if isinstance(model, bytes) else model.read_bytes()
    with refused("model.onnx"):
        check_graph(data)
    tuning = tuning or Tuning()
    providers: list[Any] = [(provider, dict(tuning.provider))]
    if provider in FALLBACK:
        providers.append(FALLBACK[provider])
    try:
        loaded = ort.InferenceSession(
            data, _options(threads, tuning.session), providers=providers, enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's errors have no common class
        reason = " ".join(str(error).split())
        raise BundleRefused(f"model.onnx: ONNX Runtime cannot load it: {reason}") from None
    loaded._model_bytes = None  # kept for a fallback that is off: as much again as the weights
    session = Session(loaded)
    _check_types(session)
    if session.providers[0] != provider:
        raise BundleRefused(
            f"model.onnx: must run on {provider}, ONNX Runtime chose {session.providers[0]}:"
            " the provider's libraries or its device are missing here"
        )
    return session


def device_memory_bytes(provider: str) -> int:
    """Return the memory of a provider's device that this process may use at most."""
    if provider == CUDA:
        return _cuda_memory_bytes()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(memory, int(text)) if text != "max" else memory


def _options(threads: int, entries: Mapping[str, str]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for name, value in {**QUIET, **entries, **ONNX_ONLY}.items():
        options.add_session_config_entry(name, value)
    return options


def _check_types(session: Session) -> None:
    """Refuse what ONNX Runtime's Python API cannot carry: text goes in only where BF16 stays in."""
    if "BF16" in session.outputs.values() and "BYTES" in session.inputs.values():
        raise BundleRefused(
            "model.onnx: takes BYTES and gives BF16, which ONNX Runtime cannot pass from Python;"
            " cast the outputs to FP32 in the graph"
        )


def _signature(tensors: list[Any]) -> dict[str, str]:
    return {tensor.name: ORT_TYPES.get(tensor.type, tensor.type) for tensor in tensors}


def _shapes(session: ort.InferenceSession) -> dict[str, list[int]]:
    tensors = [*session.get_inputs(), *session.get_outputs()]
    return {
        tensor.name: [dim if isinstance(dim, int) and dim >= 0 else -1 for dim in tensor.shape]
        for tensor in tensors
    }


def _about(session: ort.InferenceSession) -> dict[str, str]:
    meta = session.get_modelmeta()
    about = {"producer": meta.producer_name, "graph": meta.graph_name, "says": meta.description}
    return {key: text for key, text in about.items() if text}


def _typed(bits: np.ndarray[Any, Any]) -> ort.OrtValue:
    """Say that uint16 holds BF16; the value stands on the array's own memory."""
    contiguous = np.asarray(bits, order="C")  # keeps a scalar a scalar
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(contiguous, ONNX_BFLOAT16)


def _bits(value: ort.OrtValue) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Copy a BF16 value's bits out of ONNX Runtime's memory."""
    shape = value.shape()
    if (size := 2 * math.prod(shape)) == 0:
        return np.empty(shape, np.uint16)
    return np.frombuffer(ctypes.string_at(value.data_ptr(), size), np.uint16).reshape(shape)


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
