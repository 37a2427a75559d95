"""Which GPUs a process may use, read from files: asking a driver in trouble may hang."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
BY_BUS = "PCI_BUS_ID"
"""The order in which nvidia-smi counts, which people copy numbers from. CUDA's own default
(fastest first) cannot be known without running something on each device."""

MEMORY_SHARE = "SLIPWAY_GPU_MEMORY_SHARE"
"""Set for a stage: how much of a GPU's memory it may take; the rest is for what serves there."""


@dataclass(frozen=True)
class GpuDevice:
    """One GPU."""

    name: str
    """Its node under /dev, the same for every process of the machine: `nvidia0`."""
    uuid: str = ""
    """`GPU-...`; empty where the driver does not say."""


def present(
    nodes: Path = Path("/dev"), driver: Path = Path("/proc/driver/nvidia/gpus")
) -> tuple[GpuDevice, ...]:
    """List the NVIDIA devices that have a node here, in the order of the bus."""
    names = {path.name for path in nodes.glob("nvidia[0-9]*") if path.name[6:].isdigit()}
    stated: dict[str, str] = {}
    for path in sorted(driver.glob("*/information")):  # folders are named by PCI address
        facts = _facts(path)
        stated[f"nvidia{facts.get('Device Minor', '?')}"] = facts.get("GPU UUID", "")
    rest = sorted(names - stated.keys(), key=lambda name: int(name[6:]))
    return tuple(
        GpuDevice(name, stated.get(name, "")) for name in [*stated, *rest] if name in names
    )


def visible(devices: Sequence[GpuDevice], env: Mapping[str, str]) -> tuple[GpuDevice, ...]:
    """Return the devices that CUDA would show to a process with this environment.

    As CUDA reads it, a list ends where an entry names no device. Where numbers count by
    speed, any device may be meant, so all of them are taken.
    """
    text = env.get(VISIBLE)
    entries = [] if text is None else [entry.strip() for entry in text.split(",")]
    by_speed = env.get(ORDER, BY_BUS) != BY_BUS and any(entry.isdigit() for entry in entries)
    if text is None or by_speed:
        return tuple(devices)
    found: list[GpuDevice] = []
    for entry in entries:
        device = _named(devices, entry)
        if device is None:
            break
        found += [device] if device not in found else []
    return tuple(found)


def environment(devices: Sequence[GpuDevice], env: Mapping[str, str]) -> dict[str, str]:
    """Return what a process is stated, so that it uses the devices that are meant and no other."""
    numbers = ",".join(str(i) for i in range(len(devices)))
    return {ORDER: env.get(ORDER, BY_BUS), VISIBLE: env.get(VISIBLE, numbers)}


def _named(devices: Sequence[GpuDevice], entry: str) -> GpuDevice | None:
    """Find what one entry names: a number, a part of a UUID that fits one device, a MIG slice."""
    if entry.isdecimal():
        return devices[int(entry)] if int(entry) < len(devices) else None
    if entry.startswith("MIG-"):
        return GpuDevice(entry, entry)  # a slice is a device of its own, with memory of its own
    fitting = [d for d in devices if entry.startswith("GPU-") and d.uuid.startswith(entry)]
    return fitting[0] if len(fitting) == 1 else None


def _facts(path: Path) -> dict[str, str]:
    """Read `Name:  value` lines; a device that falls off the bus meanwhile says nothing."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}
