"""How long this machine's GPUs were busy, for whoever has one.

The driver tells how busy a device is, and not for whom: another program on the same device
counts too. One stage at a time takes the GPU's slot, so usually there is none.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

EVERY_S = 1.0
"""Between two looks; the driver's own window is as long on most devices."""

Busy = Callable[[], float]
"""Returns how many devices' worth of work goes on now: 1.5 is one busy and one half busy."""


def busy_devices() -> Busy | None:
    """Return what asks the driver; None without a device or without the library for it."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # no library, or one that does not go with the driver
        return None

    def busy() -> float:
        percents = [int(pynvml.nvmlDeviceGetUtilizationRates(one).gpu) for one in handles]
        return sum(percents) / 100

    return busy


class GpuMeter:
    """Adds up the busy seconds from `start` on, in a thread that sleeps nearly always."""

    def __init__(self, busy: Busy | None = None, every_s: float = EVERY_S) -> None:
        """Take what tells how busy the devices are; found by itself if left out."""
        self._busy, self._every_s = busy, every_s
        self._seconds: float | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to look, where there is a device."""
        self._busy = self._busy or busy_devices()
        if self._busy is not None:
            self._seconds = 0.0
            threading.Thread(target=self._look, args=(self._busy,), daemon=True).start()

    def stop(self) -> float | None:
        """Return the busy seconds so far; None where nobody could look."""
        self._ended.set()
        return None if self._seconds is None else round(self._seconds, 1)

    def _look(self, busy: Busy) -> None:
        while not self._ended.wait(self._every_s):
            with suppress(Exception):  # a device that fell away is the stage's business
                self._seconds = (self._seconds or 0.0) + busy() * self._every_s
