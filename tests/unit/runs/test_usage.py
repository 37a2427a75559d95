"""What a process took is what the kernel says of it and of those that it waited for."""

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from slipway.runs.gpu import GpuMeter
from slipway.runs.usage import StageUsage, measure

MIB = 1 << 20


def measured(code: str) -> StageUsage:
    """Run code in a process of its own, measured at its end."""
    lines = [
        "import json, subprocess, sys",
        "from dataclasses import asdict",
        "from slipway.runs.usage import measure",
        code,
        "print(json.dumps(asdict(measure())))",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    return StageUsage(**json.loads(done.stdout))


def in_child(code: str) -> str:
    return f"subprocess.run([sys.executable, '-c', {code!r}], check=True)"


SPIN = "import time\nwhile time.process_time() < 0.6: pass"
FILL = f"x = b'x' * {200 * MIB}"
READ = f"open('/dev/zero', 'rb', buffering=0).read({8 * MIB})"
WRITE = f"open('/dev/null', 'wb', buffering=0).write(bytes({8 * MIB}))"


@pytest.mark.parametrize("place", [str, in_child], ids=["itself", "a child"])
def test_computing_memory_and_bytes_are_counted_wherever_they_are_taken(
    place: Callable[[str], str],
) -> None:
    idle = measured("")
    busy = measured("\n".join(place(code) for code in (SPIN, FILL, READ, WRITE)))
    assert busy.cpu_s is not None
    assert idle.cpu_s is not None
    assert busy.cpu_s - idle.cpu_s > 0.4
    assert (busy.peak_rss_bytes or 0) > 200 * MIB > (idle.peak_rss_bytes or 0)
    assert (busy.read_bytes or 0) - (idle.read_bytes or 0) >= 8 * MIB
    assert (busy.written_bytes or 0) - (idle.written_bytes or 0) >= 8 * MIB
    assert busy.gpu_s is None


def test_the_memory_of_whoever_started_it_is_not_its_own() -> None:
    large = bytearray(300 * MIB)
    small = measured("")
    assert (small.peak_rss_bytes or 0) < 300 * MIB < (measure().peak_rss_bytes or 0)
    assert len(large) == 300 * MIB


def test_a_meter_adds_up_how_busy_the_devices_are() -> None:
    looks: list[float] = []

    def busy() -> float:
        looks.append(1.5)
        return 1.5

    meter = GpuMeter(busy, every_s=0.2)
    meter.start()
    while len(looks) < 4:
        time.sleep(0.01)
    assert meter.stop() == pytest.approx(1.5 * 0.2 * 4, abs=0.31)


def test_a_meter_that_was_never_started_knows_nothing() -> None:
    assert GpuMeter(lambda: 1.0).stop() is None
