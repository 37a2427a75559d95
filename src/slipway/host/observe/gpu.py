"""Read what the GPUs do through NVML, in a thread of its own.

NVML answers in microseconds, and in seconds when a device is in trouble: never on the event loop.
"""

import contextlib
import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

EVERY_S: Final = 5.0

READINGS: Final[dict[str, tuple[str, Callable[[Any, Any], float]]]] = {
    "gpu_utilization_ratio": (
        "Share of the last second or less in which the GPU ran anything.",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    "gpu_memory_used_bytes": (
        "Memory in use, by every process.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    ),
    "gpu_memory_bytes": (
        "Memory of the device.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
    ),
    "gpu_temperature_celsius": (
        "Temperature of the chip.",
        lambda nvml, gpu: _temperature(nvml, gpu),
    ),
    "gpu_energy_joules_total": (
        "Energy since the driver was loaded.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000,
    ),
}
"""By series: what it says, and how it is read. A device that lacks one has no such series."""


class Gpus(Collector):
    """The last readings of all GPUs; register it with the metrics' registry.

    Without a driver, the library or a GPU there are no series, and one line in the log.
    """

    def __init__(self, nvml: Any = None, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._readings: dict[tuple[str, str, str], float] = {}
        """By series, index and UUID; replaced whole, so no reader sees half of it."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(nvml,), name="gpu", daemon=True)
        self._thread.start()

    def collect(self) -> Iterator[Metric]:
        """Return one family per kind of reading that any GPU has."""
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for (name, index, uuid), value in self._readings.items():
            if name not in families:
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                text = READINGS[name][0]
                families[name] = kind(f"slipway_{name}", text, labels=("gpu", "uuid"))
            families[name].add_metric((index, uuid), value)
        yield from families.values()

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join(1)

    def _run(self, nvml: Any) -> None:
        try:
            nvml = nvml or importlib.import_module("pynvml")
            nvml.nvmlInit()
            gpus = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
            named = [(str(nvml.nvmlDeviceGetUUID(gpu)), gpu) for gpu in gpus]
        except Exception as error:  # NVML's errors are a class of the module that may be missing
            log.info("no GPU metrics", extra={"reason": type(error).__name__})
            return
        self._readings = _read(nvml, named)
        while not self._stop.wait(self._every_s):
            self._readings = _read(nvml, named)


def _read(nvml: Any, gpus: list[tuple[str, Any]]) -> dict[tuple[str, str, str], float]:
    readings = {}
    for index, (uuid, gpu) in enumerate(gpus):
        for name, (_, read) in READINGS.items():
            with contextlib.suppress(Exception):  # this device has none, or has gone
                readings[name, str(index), uuid] = float(read(nvml, gpu))
    return readings


def _temperature(nvml: Any, gpu: Any) -> float:
    """Ask as new drivers want it, and else as old ones do."""
    with contextlib.suppress(Exception):
        return float(nvml.nvmlDeviceGetTemperatureV(gpu, nvml.NVML_TEMPERATURE_GPU))
    return float(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU))
