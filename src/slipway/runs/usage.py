"""Measure what this process and those that it waited for took of the machine.

The kernel adds what a process took to its parent when that waits for it, so torchrun and its
ranks are in these numbers. A process that nobody waits for is not.
"""

import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KIB = 1024
"""Linux counts resident memory in these."""


@dataclass(frozen=True)
class StageUsage:
    """What a stage took of the machine: it and every process that it waited for."""

    cpu_s: float | None = None
    peak_rss_bytes: int | None = None
    """Of the largest of its processes; those side by side are not added up."""
    gpu_s: float | None = None
    """Busy seconds of this machine's GPUs meanwhile, added up; None where there is none."""
    read_bytes: int | None = None
    """Asked for by read(): from the page cache too, through a mapping not."""
    written_bytes: int | None = None
    """Given to write()."""

    def to_dict(self) -> dict[str, Any]:
        """Return what was measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}


NOT_MEASURED = StageUsage()


def measure(gpu_s: float | None = None) -> StageUsage:
    """Return what this process took since it began; the GPU's part comes from its meter."""
    ours, theirs = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    moved = _numbers("/proc/self/io")
    return StageUsage(
        cpu_s=round(sum(u.ru_utime + u.ru_stime for u in (ours, theirs)), 2),
        peak_rss_bytes=max(_own_peak(ours.ru_maxrss), theirs.ru_maxrss) * KIB,
        gpu_s=gpu_s,
        read_bytes=moved.get("rchar"),
        written_bytes=moved.get("wchar"),
    )


def _own_peak(otherwise: int) -> int:
    """Take the peak of this program: ru_maxrss still holds that of whoever started it."""
    return _numbers("/proc/self/status").get("VmHWM", otherwise)


def _numbers(path: str) -> dict[str, int]:
    """Read `name: number` lines; nothing where there is no such file, or it may not be read."""
    try:
        lines = Path(path).read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":")[::2] for line in lines)
    return {
        name: int(words[0])
        for name, rest in pairs
        if (words := rest.split()) and words[0].isdigit()
    }
