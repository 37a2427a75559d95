"""How many cores this host may use: what the scheduler allows it, and what its cgroup pays for.

That number is the one setting for all versions together: as many threads run models as there
are cores, and the versions take turns in them, so a new version costs the others no more than
its share of the requests. Threads are not pinned to cores: measured here it gains nothing (cnn
3,328 rows/s loose, 3,320 pinned; encoder 176 both), and beside an event loop a pinned thread
would wait for its own core while another is idle. Whoever wants a host on one socket says so
to systemd (`CPUAffinity=`) or taskset, which is respected here.
"""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def count_cores(cgroup: Path = CGROUP, own: Path = OWN) -> int:
    """Return how many threads may compute at once without waiting for each other."""
    allowed = len(os.sched_getaffinity(0))
    quota = read_quota(cgroup, own)
    return max(1, math.ceil(min(allowed, quota)))


def read_quota(cgroup: Path = CGROUP, own: Path = OWN) -> float:
    """Return the cores that the cgroups pay for; infinite where nothing limits them.

    Each group from the root (in a container: its own group) down to this process's may set a
    limit, and the smallest counts. Version 2 has `cpu.max`, version 1 two files.
    """
    folders = [cgroup, cgroup / "cpu"]
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if controllers == "" or "cpu" in names:
            base = cgroup / "cpu" if controllers else cgroup
            parts = Path(path.lstrip("/")).parts
            folders += [base.joinpath(*parts[: n + 1]) for n in range(len(parts))]
    return min(map(_limit, folders))


def _limit(folder: Path) -> float:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _text(folder / "cpu.cfs_quota_us").strip()
        period = _text(folder / "cpu.cfs_period_us").strip()
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return math.inf  # "max", -1, or no such file
    return int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
