"""Run a command so that nothing of it outlives whoever started it.

Prefect's cancellation reaches the flow's process only, and SIGTERM to DVC orphans the stage
that it started: torchrun ranks, each in a session of its own, would train on for hours. This
process stands between: it is the reaper of every descendant (also of those that were orphaned
or left the session) and stops all of them when it is told to, or when the control pipe from
the flow's process ends, which it does even after `kill -9`.

    flow - supervisor - guard - COMMAND ...

It can be killed as well, so there are two of it. The guard is a fork in a session of its own,
and a reaper too: a pipe tells it that the supervisor is gone, and the kernel tells the
supervisor that the guard is. Whichever is left ends everything, and says why. Where both are
killed, the kernel kills the command, and a stage's runner sees that (`containment`).

Told to stop, it may wait: a training writes its checkpoint first (--patience). The end of whoever
waits ends that at once.

    python supervise.py [--control-fd N] [--grace S] [--patience S] -- COMMAND...

Standard library only: it starts in 30 ms and stays small beside a training run.
"""

import argparse
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

GRACE_S = 1.0
"""Between SIGTERM and SIGKILL. Ranks must be gone within 2 s: a GPU may be waited for."""

GENTLY = b"g"
"""Written to the control pipe: stop, with patience."""

TICK_S = 0.02
"""How often a dying tree is looked at."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

GUARD = "SLIPWAY_GUARD"
"""Set for the command: the process id of the guard above it."""

Tree = Callable[[], list[int]]


class End(Enum):
    """Why a process is no longer waited for."""

    BY_ITSELF = auto()
    KILLED = auto()
    TOLD = auto()
    """A signal, or a word on the control pipe, told this process to stop."""
    ALONE = auto()
    """The other end of the control pipe is closed."""


def main(argv: list[str]) -> int:
    """Run the command; return its exit code, or 128 + the signal that ended it."""
    options = _parse(argv)
    lifeline, held = os.pipe()

    def fork_guard() -> int:
        if pid := os.fork():
            os.close(lifeline)
            return pid
        os.close(held)
        os.setsid()
        name_process(f"slipway guard of process {os.getppid()}")
        said = {End.ALONE: f"stopped: its supervisor (process {os.getppid()}) was killed"}
        os._exit(_supervise(lambda: _start(options.command), lifeline, options, said))

    said = {End.KILLED: "stopped: the guard of its supervisor was killed"}
    return _supervise(fork_guard, options.control_fd, options, said)


def name_process(title: str) -> None:
    """Give this process another command line.

    It tells the two apart for people, and for whoever kills all that are called like the
    supervisor (`pkill -f`): that must not meet both.
    """
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(stat[45]), int(stat[46])  # fields 48 and 49 of proc(5): arg_start, arg_end
    if start:  # 0 where a kernel does not tell
        room = end - start
        ctypes.memmove(start, title.encode()[: room - 1].ljust(room, b"\0"), room)


def _supervise(
    start: Callable[[], int],
    control_fd: int | None,
    options: argparse.Namespace,
    said: Mapping[End, str],
) -> int:
    """Start a process, wait for its end or the word to stop, and leave nothing of it behind."""
    become_reaper()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (*STOP_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    end, code = _wait(start(), woken, control_fd)
    if end in said:
        _say(said[end])
    grace_s = max(options.grace, options.patience) if end is End.TOLD else options.grace
    stop_tree(lambda: descendants(os.getpid()), grace_s, reap, lambda: _is_closed(control_fd))
    return code


def _start(command: list[str]) -> int:
    """Start the command and return its process id; end this process when it cannot be had."""
    guard = os.getpid()

    def end_with_guard() -> None:
        die_with_parent()
        if os.getppid() != guard:
            os._exit(128 + signal.SIGKILL)

    try:
        child = subprocess.Popen(
            command,
            env=os.environ | {GUARD: str(guard)},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            preexec_fn=end_with_guard,
        )
    except OSError as error:
        _say(f"cannot start {command[0]}: {error}")
        os._exit(127)
    child.returncode = 0  # `reap` collects it, so Popen must not wait for it
    return child.pid


def become_reaper() -> None:
    """Let orphaned descendants become children of this process instead of init's."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends.

    A parent that has ended before is not noticed: look for it afterwards.
    """
    _prctl(PR_SET_PDEATHSIG, number)


def stop_tree(
    tree: Tree,
    grace_s: float,
    reaped: Callable[[], object] = lambda: None,
    hurry: Callable[[], bool] = lambda: False,
) -> None:
    """Send SIGTERM to a tree, then SIGKILL until nothing of it is left; in a hurry after `GRACE_S`.

    `tree` is asked until it is empty twice in a row: a dying process may still start others,
    and /proc is not read in one instant.
    """
    _signal_each(tree(), signal.SIGTERM)
    began = time.monotonic()
    deadline = began + grace_s
    found_empty = 0
    while found_empty < 2:
        left = tree()
        found_empty = 0 if left else found_empty + 1
        if left and hurry():
            deadline = min(deadline, began + GRACE_S)
        if left and time.monotonic() > deadline:
            _signal_each(left, signal.SIGKILL)
        if left:
            time.sleep(TICK_S)
        reaped()


def descendants(ancestor: int) -> list[int]:
    """List the living processes below one, whatever their session."""
    children: dict[int, list[tuple[int, bool]]] = {}
    for pid, parent, alive in _processes():
        children.setdefault(parent, []).append((pid, alive))
    found, unseen = [], [ancestor]
    while unseen:
        below = children.get(unseen.pop(), [])
        found += [pid for pid, alive in below if alive]
        unseen += [pid for pid, _ in below]
    return found


def reap() -> dict[int, int]:
    """Collect every child that ended; return exit codes by pid, minus the signal if by one."""
    codes = {}
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            codes[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    return codes


def _wait(pid: int, woken: int, control_fd: int | None) -> tuple[End, int]:
    """Wait until the process ends, a stop signal comes or the control pipe ends."""
    watched = [woken] if control_fd is None else [woken, control_fd]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if control_fd is not None and control_fd in ready:
            gently = os.read(control_fd, 1) == GENTLY
            return End.TOLD if gently else End.ALONE, 128 + signal.SIGTERM
        if woken in ready:
            numbers = os.read(woken, 4096)
            if (code := reap().get(pid)) is not None:
                return (End.BY_ITSELF, code) if code >= 0 else (End.KILLED, 128 - code)
            for number in numbers:
                if number in STOP_SIGNALS:
                    return End.TOLD, 128 + number


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _is_closed(control_fd: int | None) -> bool:
    """Tell whether whoever holds the control pipe's other end has closed it, or is gone."""
    if control_fd is None or not select.select([control_fd], [], [], 0)[0]:
        return False
    return not os.read(control_fd, 1)


def _processes() -> Iterator[tuple[int, int, bool]]:
    """Yield pid, parent and whether it is alive (not a zombie) of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # the name may hold spaces and brackets, so what follows its last bracket counts
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                yield int(entry.name), int(parent), state not in "ZX"


def _say(what: str) -> None:
    """Tell it to whoever reads what the command writes, if anybody still does."""
    with suppress(OSError):
        sys.stderr.write(f"slipway: {what}\n")
        sys.stderr.flush()


def _signal_each(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="supervise.py", description=__doc__)
    parser.add_argument("--control-fd", type=int, help="stop when this pipe's other end closes")
    parser.add_argument("--grace", type=float, default=GRACE_S, help="seconds before SIGKILL")
    parser.add_argument("--patience", type=float, default=0.0, help="the same, when told to stop")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
