"""GPU readings come from NVML where there is one, and cost nothing where there is none."""

import threading
from types import SimpleNamespace

from slipway.host.observe.gpu import Gpus
from slipway.host.observe.metrics import Metrics
from tests.support.waiting import wait_until


class PaperNvml:
    """NVML with two devices; the second knows no energy, and a driver without the new call."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self, gpus: int = 2, old: bool = False) -> None:
        self.gpus = gpus
        self.old = old
        self.threads: set[str] = set()
        self.utilization = 40

    def nvmlInit(self) -> None:  # noqa: N802
        self.threads.add(threading.current_thread().name)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, gpu: int) -> str:  # noqa: N802
        return f"GPU-{gpu}"

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=self.utilization)

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=1 << 30, total=80 << 30)

    def nvmlDeviceGetTemperatureV(self, gpu: int, sensor: int) -> int:  # noqa: N802
        if self.old:
            raise RuntimeError("function not found")
        return 51

    def nvmlDeviceGetTemperature(self, gpu: int, sensor: int) -> int:  # noqa: N802
        return 52

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: int) -> int:  # noqa: N802
        if gpu == 1:
            raise RuntimeError("not supported")
        return 2_500


def read(metrics: Metrics, name: str, gpu: int, wanted: float) -> float | None:
    """Wait until a series has the wanted value, and return what it has."""
    labels = {"gpu": str(gpu), "uuid": f"GPU-{gpu}"}

    def found() -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    wait_until(lambda: found() == wanted, lambda: f"{name} is {wanted}, but {found()}", 5)
    return found()


def test_each_gpu_is_read_again_and_again_in_a_thread_of_its_own() -> None:
    metrics, nvml = Metrics(), PaperNvml()
    gpus = Gpus(nvml, every_s=0.01)
    metrics.registry.register(gpus)
    assert read(metrics, "slipway_gpu_utilization_ratio", 1, 0.4) == 0.4
    assert read(metrics, "slipway_gpu_memory_used_bytes", 0, 1 << 30) == 1 << 30
    assert read(metrics, "slipway_gpu_memory_bytes", 0, 80 << 30) == 80 << 30
    assert read(metrics, "slipway_gpu_temperature_celsius", 0, 51) == 51
    assert read(metrics, "slipway_gpu_energy_joules_total", 0, 2.5) == 2.5
    nvml.utilization = 90
    assert read(metrics, "slipway_gpu_utilization_ratio", 0, 0.9) == 0.9
    assert nvml.threads == {"gpu"}
    gpus.close()


def test_what_one_device_lacks_is_left_out() -> None:
    metrics = Metrics()
    gpus = Gpus(PaperNvml(), every_s=60)
    metrics.registry.register(gpus)
    assert read(metrics, "slipway_gpu_utilization_ratio", 1, 0.4) == 0.4
    labels = {"gpu": "1", "uuid": "GPU-1"}
    assert metrics.registry.get_sample_value("slipway_gpu_energy_joules_total", labels) is None
    gpus.close()


def test_an_old_driver_is_asked_in_the_old_way() -> None:
    metrics = Metrics()
    gpus = Gpus(PaperNvml(old=True), every_s=60)
    metrics.registry.register(gpus)
    assert read(metrics, "slipway_gpu_temperature_celsius", 0, 52) == 52
    gpus.close()


def test_without_a_driver_there_are_no_series() -> None:
    metrics = Metrics()
    gpus = Gpus(object(), every_s=60)
    metrics.registry.register(gpus)
    gpus.close()
    assert b"slipway_gpu" not in metrics.render()


def test_the_paper_knows_no_more_than_the_real_library() -> None:
    import pynvml

    names = [name for name in dir(PaperNvml) if name.lower().startswith("nvml")]
    assert [name for name in names if not hasattr(pynvml, name)] == []
