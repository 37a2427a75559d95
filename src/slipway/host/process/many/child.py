"""One process of several: start it, see how it is, start it again."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from slipway.host.process.many.ask import ask
from slipway.host.process.options import HostOptions, admin_socket

FIRST_S: Final = 0.1
LONGEST_S: Final = 5.0
"""Before a process is started again: twice as long each time,"""

STEADY_S: Final = 10.0
"""and from the beginning after one that lived so long."""

START_S: Final = 60.0
"""The longest start that is not taken for a process that hangs: large libraries, slow disks."""

LOOK_S: Final = 0.05
"""Between two looks whether a process has started."""

MANAGER: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""The service manager hears of the supervisor only."""


def next_wait_s(before_s: float, lived_s: float) -> float:
    """Return how long to wait before the next start, from the wait before the last."""
    if lived_s >= STEADY_S or before_s == 0:
        return FIRST_S
    return min(LONGEST_S, before_s * 2)


def make_command(options: HostOptions, words: Sequence[str], number: int, late: bool) -> list[str]:
    """Spell out the command line of one process: the host's own, and what is different for it.

    A later word takes the place of an earlier one.
    """
    state = options.state / str(number)
    more: dict[str, Any] = {
        "--processes": 1,
        "--state": state,
        "--admin-socket": admin_socket(options.state, number),
    }
    if options.records.audit_log is not None:  # one chain of digests per process
        more["--audit-log"] = state / "audit.jsonl"
    if options.records.capture is not None:  # it clears up in its folder when it starts
        more["--capture"] = options.records.capture / str(number)
    part = ["--part", str(number), str(options.processes), str(os.getpid())]
    isolated = "-I" if sys.flags.isolated else "-P"  # the current folder holds no modules of ours
    return [
        *(sys.executable, isolated, "-m", "slipway.host"),
        *words,
        *(str(word) for pair in more.items() for word in pair),
        *part,
        *(["--late"] if late else []),
    ]


class Child:
    """The place of one process, whichever has it now."""

    def __init__(self, options: HostOptions, words: Sequence[str], number: int) -> None:
        self._options = options
        self._words = words
        self.number = number
        self.socket: Path = admin_socket(options.state, number)
        self.status: Mapping[str, Any] | None = None
        """What it said last; None: it does not answer."""
        self._process: asyncio.subprocess.Process | None = None
        self._answered = False
        self._started_s = 0.0

    @property
    def pid(self) -> int | None:
        """Which process has the place; None: it has ended."""
        return self._process.pid if self._process and self.code is None else None

    @property
    def code(self) -> int | None:
        """How the last process ended; None: it runs, or none was started."""
        return self._process.returncode if self._process else None

    @property
    def answered(self) -> bool:
        """Whether the process that runs now has answered once."""
        return self._answered and self.pid is not None

    @property
    def lived_s(self) -> float:
        """How long ago the last process was started."""
        return asyncio.get_running_loop().time() - self._started_s

    @property
    def stuck(self) -> bool:
        """Whether it runs and does not answer, though it has had the time to."""
        if self.pid is None or self.status is not None:
            return False
        return self._answered or self.lived_s > START_S

    async def start(self, late: bool) -> None:
        """Start a process; in a session of its own, so that Ctrl-C reaches the supervisor only."""
        self._answered, self.status = False, None
        self._started_s = asyncio.get_running_loop().time()
        self._process = await asyncio.create_subprocess_exec(
            *make_command(self._options, self._words, self.number, late),
            stdin=asyncio.subprocess.DEVNULL,
            env={key: value for key, value in os.environ.items() if key not in MANAGER},
            start_new_session=True,
        )

    async def up(self) -> bool:
        """Wait until the process answers; return False if it ends before."""
        while self.pid is not None and await self.look() is None:
            await asyncio.sleep(LOOK_S)
        return self.pid is not None

    async def look(self) -> Mapping[str, Any] | None:
        """Ask the process how it is."""
        self.status = None if self.pid is None else await self._ask("/status")
        self._answered = self._answered or self.status is not None
        return self.status

    async def reload(self) -> None:
        """Let the process read its files again; one that has just started does so anyway."""
        if self.answered:
            self.status = await self._ask("/reload", "POST", START_S)

    async def wait(self) -> int:
        """Wait for the end of the process and return its code."""
        assert self._process
        return await self._process.wait()

    def signal(self, number: int) -> None:
        """Send a signal; SIGHUP only to a process that has got so far as to expect it."""
        if self.pid is not None and (number != signal.SIGHUP or self._answered):
            assert self._process
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _ask(
        self, target: str, method: str = "GET", timeout_s: float = 1.0
    ) -> Mapping[str, Any] | None:
        try:
            answer: Mapping[str, Any] = orjson.loads(
                await ask(self.socket, target, method, timeout_s)
            )
        except (OSError, ValueError):
            return None
        return answer
