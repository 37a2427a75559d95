"""Have a process end with everything that it started, however it ends itself.

    runner - init - WORK - whatever it starts, in whichever session

The runner stays outside and waits. Where the machine allows it, `init` is the first process of a
PID namespace: the kernel kills all that is in one when its first process dies, and it kills that
one when the runner does. So nothing outlives the runner, not even `kill -9` of it. Elsewhere the
two are reapers: what is orphaned comes to them, and they end it, unless they are killed as well.

The runner ends the work when it is told to, or when those are gone that wait for it: DVC, which a
terminal may kill without a word to its stages, and the flow's supervisor.

Standard library only, and to be entered before there are threads: they do not survive a fork, and
a process with threads may not leave its user namespace.
"""

import ctypes
import mmap
import os
import select
import signal
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slipway.processes.marks import ProcessMark, lives, mark_of, parent_of
from slipway.processes.supervise import (
    GRACE_S,
    GUARD,
    STOP_SIGNALS,
    become_reaper,
    descendants,
    die_with_parent,
    reap,
    stop_tree,
)

TICK_S = 0.1
"""How often those above are looked for."""

WORD_S = 0.3
"""Who stops a whole tree stops DVC first: a signal for the runner may follow this much later."""

SAY_EVERY_S = 5.0
"""Between two lines of the countdown."""

Say = Callable[[str], None]

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x0002_0000, 0x1000_0000, 0x2000_0000  # linux/sched.h
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 2, 4, 8, 0x4000, 0x8_0000  # linux/mount.h


@dataclass(frozen=True)
class Above:
    """The processes for whom the work is done."""

    starters: tuple[ProcessMark, ...] = ()
    """From the parent up to the one that asked for the work. Once one is gone, nobody waits."""
    guard: ProcessMark | None = None
    """A supervisor's: it decides how long the work may take to end, as long as it lives."""

    @classmethod
    def up_to(cls, starter: ProcessMark | None, environ: Mapping[str, str]) -> "Above":
        """Find those between this process and who asked for the work, and a supervisor's guard."""
        guard = mark_of(int(number)) if (number := environ.get(GUARD, "")).isdigit() else None
        found: list[ProcessMark] = []
        pid = os.getpid()
        while starter and starter not in found and (pid := parent_of(pid)) > 1:
            if mark := mark_of(pid):
                found.append(mark)
        return cls(tuple(found) if starter in found else (), guard)


class Within:
    """What the work says, to be read outside: memory that both share."""

    _FORM = struct.Struct("d?")

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._shared = mmap.mmap(-1, self._FORM.size)

    @property
    def patience_s(self) -> float:
        """How long the work may take to end when it is told to."""
        return float(self._FORM.unpack(self._shared[:])[0])

    @property
    def ended(self) -> bool:
        """Whether the work noted its own end."""
        return bool(self._FORM.unpack(self._shared[:])[1])

    def be_patient(self, seconds: float) -> None:
        """Say how long the work may take to end when it is told to."""
        self._shared[:] = self._FORM.pack(seconds, self.ended)

    def end(self) -> None:
        """Say that the work has noted its own end."""
        self._shared[:] = self._FORM.pack(self.patience_s, True)


def enter(above: Above, within: Within, say: Say) -> int | None:
    """Return None in a process that is contained; outside, the exit code when all of it is gone.

    A process that a signal ended counts as 128 + the signal, and so does one that was stopped.
    """
    private = namespaces_allowed()
    watch = _Watch(above, within, say)
    become_reaper()
    ours, held = os.pipe()
    if private:
        _unshare()
    if (init := os.fork()) == 0:
        os.close(held)
        watch.close()
        if _is_stage(ours, private):
            return None
    os.close(ours)
    return watch.wait(init, private)


def namespaces_allowed() -> bool:
    """Try whether this process may have a PID namespace with its own /proc."""
    if (probe := os.fork()) == 0:
        with suppress(OSError):
            _unshare()
            if (first := os.fork()) == 0:
                _mount_proc()
                os._exit(0)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
        os._exit(1)
    return os.waitpid(probe, 0)[1] == 0


class _Watch:
    """The runner's part: wait for the end, or for a reason to end it."""

    def __init__(self, above: Above, within: Within, say: Say) -> None:
        """Take signals from now on."""
        self._above, self._within, self._say = above, within, say
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, lambda *_: None)
            for number in (*STOP_SIGNALS, signal.SIGCHLD)
        }
        self._stopped_by: int | None = None
        self._began = self._alone_since = 0.0
        self._deadline: float | None = None
        self._said_s: float | None = None

    def close(self) -> None:
        """Give signals back, in a process that is no runner."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for each in (self._woken, self._wake):
            os.close(each)

    def wait(self, init: int, private: bool) -> int:
        """Return the exit code of the work when nothing of it is left."""
        while True:
            ready, _, _ = select.select([self._woken], [], [], TICK_S)
            numbers = os.read(self._woken, 4096) if ready else b""
            if (code := reap().get(init)) is not None:
                break
            for number in numbers:
                if number in STOP_SIGNALS:
                    self._hear(number, init)
            self._look_up(init)
            if self._deadline is not None and time.monotonic() > self._deadline:
                os.kill(init, signal.SIGKILL)
                if not private:
                    stop_tree(lambda: descendants(os.getpid()), 0.0)
            else:
                self._count_down()
        stop_tree(lambda: descendants(os.getpid()), GRACE_S, reap)
        if self._stopped_by is not None:
            return 128 + self._stopped_by
        return code if code >= 0 else 128 - code

    def _hear(self, number: int, init: int) -> None:
        """Stop with patience; told again, at once. A supervisor and its guard tell it twice."""
        if self._stopped_by is not None:
            if self._above.guard is None:
                self._deadline = time.monotonic()
            return
        self._stopped_by = number
        self._stop(init, max(GRACE_S, self._within.patience_s))

    def _look_up(self, init: int) -> None:
        """End the work when nobody waits for it any more."""
        now = time.monotonic()
        guard = self._above.guard
        nobody = guard is not None and not lives(guard)
        if self._stopped_by is None:
            nobody = nobody or any(not lives(each) for each in self._above.starters)
        elif guard is None:
            nobody = any(not lives(each) for each in self._above.starters)
        if not nobody:
            self._alone_since = 0.0
        elif not self._alone_since:
            self._alone_since = now
        elif now - self._alone_since > WORD_S:
            if self._stopped_by is None:
                self._stopped_by = signal.SIGTERM
                self._say("stopped: whoever started this stage is gone")
                self._stop(init, GRACE_S)
            elif self._deadline is not None:
                self._deadline = min(self._deadline, now + GRACE_S)

    def _stop(self, init: int, grace_s: float) -> None:
        self._began = time.monotonic()
        self._deadline = self._began + grace_s
        with suppress(ProcessLookupError):
            os.kill(init, signal.SIGTERM)

    def _count_down(self) -> None:
        """Say how long it may take, where no flow does."""
        if self._deadline is None or self._above.guard is not None:
            return
        left_s = self._deadline - time.monotonic()
        if left_s > GRACE_S and (self._said_s is None or left_s < self._said_s - SAY_EVERY_S):
            self._said_s = left_s
            self._say(f"stopping: up to {left_s:.0f} s to save what was done (Ctrl-C: at once)")


def _is_stage(runner: int, private: bool) -> bool:
    """Become init, and return in the process below it that does the work."""
    die_with_parent()
    if select.select([runner], [], [], 0)[0]:  # the runner was killed before this was asked for
        os._exit(128 + signal.SIGKILL)
    os.setsid()  # a Ctrl-C of the terminal is the runner's to pass on
    if private:
        _mount_proc()
    else:
        become_reaper()
    watched = {*STOP_SIGNALS, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    if (stage := os.fork()) == 0:
        die_with_parent()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(runner)
        return True
    os._exit(_be_init(stage, watched))


def _be_init(stage: int, watched: set[signal.Signals]) -> int:
    """Collect all that ends; return the work's exit code when it ended.

    Told to stop, wait for the others too: ranks write a checkpoint while the work is gone.
    """
    stopping, code, others = False, None, True
    while code is None or (stopping and others):
        number = signal.sigwaitinfo(watched).si_signo
        if number in STOP_SIGNALS:
            stopping = True
            if code is None:
                os.kill(stage, signal.SIGTERM)
        ended = reap()
        if stage in ended:
            code = ended[stage] if ended[stage] >= 0 else 128 - ended[stage]
        others = bool(_children())
    return code


def _children() -> list[int]:
    """List the children of this process that are not collected yet."""
    me = Path(f"/proc/self/task/{os.getpid()}/children")
    with suppress(OSError):
        return [int(pid) for pid in me.read_text().split()]
    return descendants(os.getpid())


def _unshare() -> None:
    """Have the next child be the first of a PID namespace; raise OSError where that is refused.

    Who is not root needs a user namespace for it, in which it stays who it is.
    """
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        return _call("unshare", CLONE_NEWPID)
    _call("unshare", CLONE_NEWUSER | CLONE_NEWPID)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return None


def _mount_proc() -> None:
    """Show the namespace its own processes, and go on seeing what is mounted outside."""
    _call("unshare", CLONE_NEWNS)
    _call("mount", b"none", b"/", None, MS_REC | MS_SLAVE, None)
    _call("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
