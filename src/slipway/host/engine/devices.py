"""What the GPU's own libraries say and do that ONNX Runtime has no call for.

The driver is asked through ctypes, because it is there wherever the CUDA provider works, and
nothing else need be installed.
"""

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from slipway.host.request.message import Array

COMPUTE_MAJOR: Final = 75
COMPUTE_MINOR: Final = 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*."""
PORTABLE: Final = 1
"""CU_MEMHOSTREGISTER_PORTABLE: pinned for every context of the process, ONNX Runtime's too."""
NAME_BYTES: Final = 100


@dataclass(frozen=True)
class Gpu:
    """What an engine that TensorRT built is good for."""

    name: str
    capability: str
    """Like 9.0."""


def find_gpu(device_id: int = 0) -> Gpu | None:
    """Return the GPU, or None without a driver or a device."""
    driver = _library("libcuda.so.1")
    device, name = ctypes.c_int(), ctypes.create_string_buffer(NAME_BYTES)
    major, minor = ctypes.c_int(), ctypes.c_int()
    if driver is None or (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), device_id)
        or driver.cuDeviceGetName(name, NAME_BYTES, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), COMPUTE_MINOR, device)
    ):
        return None
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}")


def find_tensorrt() -> int | None:
    """Return TensorRT's version as its library numbers it, or None without the library."""
    library = _library("libnvinfer.so.10")
    return None if library is None else int(library.getInferLibVersion())


def name_engines(model_sha256: str, gpu: Gpu, tensorrt: int) -> str:
    """Name the folder of one model's TensorRT engines.

    Two models of one structure can share an engine by ONNX Runtime's own names and would then
    answer alike; another GPU or another TensorRT cannot use it at all.
    """
    card = re.sub(r"[^A-Za-z0-9]+", "_", gpu.name).strip("_")
    return f"{model_sha256}-{card}-sm{gpu.capability.replace('.', '')}-trt{tensorrt}"


def pin(array: Array, device_id: int = 0) -> Callable[[], None]:
    """Lock an array's memory so that the GPU copies it without a detour; return what undoes it.

    Where the driver refuses (the limit of locked memory), copies only take longer.
    """
    driver = _library("libcuda.so.1")
    address = ctypes.c_void_p(array.ctypes.data)
    context, device = ctypes.c_void_p(), ctypes.c_int()
    if driver is None or (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), device_id)
        or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
        or driver.cuCtxSetCurrent(context)
        or driver.cuMemHostRegister_v2(address, ctypes.c_size_t(array.nbytes), PORTABLE)
    ):
        return _nothing

    def unpin() -> None:
        driver.cuCtxSetCurrent(context)
        driver.cuMemHostUnregister(address)
        driver.cuDevicePrimaryCtxRelease_v2(device)

    return unpin


def _nothing() -> None:
    """Undo nothing."""


def _library(name: str) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
