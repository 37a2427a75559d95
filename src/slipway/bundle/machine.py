"""What a proof says of the machine that it was taken on."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from slipway.provider import CUDA

NVIDIA_SMI_TIMEOUT_S = 30


def hardware(provider: str) -> dict[str, Any]:
    """Describe the machine that a provider runs on."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "memory_bytes": memory,
        "gpus": _gpus() if provider == CUDA else [],
    }


def _cpu() -> str:
    """Name the CPU as its maker does; platform.processor() is empty on Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _gpus() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        listing = subprocess.run(
            command, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return listing.stdout.strip().splitlines()
