"""Who used the CPUs, read from /proc: the server, the load, and everything foreign."""

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK_HZ = os.sysconf("SC_CLK_TCK")
CORES = len(os.sched_getaffinity(0))
UTIME, STIME, PARENT = 11, 12, 1
"""Fields of /proc/PID/stat, counted after the command's closing bracket."""


@dataclass(frozen=True)
class Usage:
    """What a process tree has taken."""

    cpu_s: float = 0.0
    pss_mib: float = 0.0
    rss_mib: float = 0.0


@dataclass(frozen=True)
class Clock:
    """CPU seconds of the whole machine since it started."""

    busy_s: float
    total_s: float


def clock() -> Clock:
    """Read the machine's CPU seconds; time stolen by a hypervisor counts as busy."""
    line = (PROC / "stat").read_text().splitlines()[0]
    times = [int(part) / TICK_HZ for part in line.split()[1:9]]
    idle, waiting = times[3], times[4]
    return Clock(sum(times) - idle - waiting, sum(times))


def stat_fields(pid: int) -> list[str]:
    """Split /proc/PID/stat after the command, which may hold spaces and brackets."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def process_tree(root: int) -> list[int]:
    """List a process and everything below it."""
    children = defaultdict(list)
    for pid in [int(p.name) for p in PROC.iterdir() if p.name.isdigit()]:
        try:
            children[int(stat_fields(pid)[PARENT])].append(pid)
        except OSError:  # it has ended meanwhile
            continue
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def usage(pids: list[int]) -> Usage:
    """Sum CPU time and memory of processes; those that have ended count as nothing."""
    cpu_s = pss = rss = 0.0
    for pid in pids:
        try:
            fields = stat_fields(pid)
            rollup = (PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        cpu_s += (int(fields[UTIME]) + int(fields[STIME])) / TICK_HZ
        memory = {line.split(":")[0]: line.split()[1] for line in rollup.splitlines()[1:]}
        pss, rss = pss + int(memory["Pss"]) / 1024, rss + int(memory["Rss"]) / 1024
    return Usage(cpu_s, pss, rss)


@dataclass(frozen=True)
class Reading:
    """A moment of a measurement; two of them say who used the CPUs between."""

    clock: Clock
    server: Usage
    bench_s: float
    known: bool
    """The bench started the server, so it can tell its share from a stranger's."""


def reading(pids: list[int]) -> Reading:
    """Read what machine, server and bench have used so far."""
    return Reading(clock(), usage(pids), time.process_time(), bool(pids))


def foreign_share(before: Reading, after: Reading, client_cpu_s: float) -> float | None:
    """Say what part of the CPUs went to neither the server, the load nor the bench."""
    if not before.known:
        return None
    server_s = after.server.cpu_s - before.server.cpu_s
    busy_s = after.clock.busy_s - before.clock.busy_s
    foreign_s = busy_s - server_s - client_cpu_s - (after.bench_s - before.bench_s)
    return foreign_s / (after.clock.total_s - before.clock.total_s)


def set_priority(pid: int, wanted: int) -> None:
    """Set the priority of a process's session, whether or not the kernel groups by session.

    Where it does (sched_autogroup), niceness ranks processes within their session only.
    """
    os.setpriority(os.PRIO_PROCESS, pid, wanted)
    autogroup = PROC / str(pid) / "autogroup"
    if autogroup.exists():
        autogroup.write_text(str(wanted))


def pass_priority_on(pid: int) -> None:
    """Let a new session have the bench's own priority: `nice -n -10 python -m benchmarks.host`."""
    if niceness():
        set_priority(pid, niceness())


def niceness() -> int:
    """Read the bench's own."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def wait_for_quiet(patience_s: float, busy: float = 0.15) -> None:
    """Wait until less than `busy` of the CPUs is in use, at most `patience_s`."""
    end = time.perf_counter() + patience_s
    while time.perf_counter() < end:
        before = clock()
        time.sleep(0.25)
        after = clock()
        if after.busy_s - before.busy_s < busy * (after.total_s - before.total_s):
            return
