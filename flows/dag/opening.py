"""Open the project with DVC: wait for who has its lock, and say what is missing.

DVC gives up after three seconds where another command holds its lock, and advises to delete what
it finds. Nobody's work is a reason to fail: whoever holds the lock is named, and waited for.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from dvc.repo import Repo

Say = Callable[[str], None]
T = TypeVar("T")

SAY_EVERY_S = 60.0
"""Between two messages about who is waited for."""

BLOCKED = "is busy, it is being blocked by:"
PID = re.compile(r"\(PID ([0-9]+)\): ")
"""DVC 3.67's words; tests/system/test_waiting.py notices if they change."""

LOOK_S = 0.5
"""Between two looks at whether a process is still there."""


def to_stderr(text: str) -> None:
    """Talk where no run's own talk is at hand."""
    print(text, file=sys.stderr, flush=True)


class Busy(SlipwayError):
    """Another command of DVC works on the same stages; it is waited for."""

    def __init__(self, message: str, pids: list[int]) -> None:
        self.pids = pids
        super().__init__(message)


@dataclass
class Patience:
    """Tells whom something waits for: at once, and again each minute."""

    say: Say = to_stderr
    clock: Callable[[], float] = time.monotonic
    began_s: float | None = None
    said_s: float = 0.0

    def tell(self, holder: str) -> None:
        """Say it, if it is time to."""
        now_s = self.clock()
        if self.began_s is None:
            self.began_s = now_s
        elif now_s - self.said_s < SAY_EVERY_S:
            return
        self.said_s = now_s
        waited_s = now_s - self.began_s
        since = f" for {waited_s / 60:.0f} min" if waited_s >= SAY_EVERY_S else ""
        self.say(f"waiting{since} for {holder} (Ctrl-C ends the waiting, and harms nothing)")


@contextmanager
def opened(root: Path) -> Iterator["Repo"]:
    """Open the project; turn DVC's errors into ours."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(root) as repo:
            yield repo
    except DvcException as error:
        if pids := blockers([str(error)]):
            raise Busy(str(error), pids) from None
        raise SlipwayError(f"DVC cannot read this project: {_what_to_do(root, error)}") from None


def patiently(work: Callable[[], T], say: Say = to_stderr) -> T:
    """Do what DVC may refuse while another command is at the same stages, after that command.

    Raise Busy where what it names is gone and still in the way, as a process is that nobody
    collects: a run clears that, and waiting does not.
    """
    gone: list[int] = []
    while True:
        try:
            return work()
        except Busy as busy:
            if busy.pids == gone:
                raise
            wait_for_end(busy.pids, say)
            gone = [pid for pid in busy.pids if not is_there(pid)]


@contextmanager
def locked(repo: "Repo", say: Say = to_stderr) -> Iterator[None]:
    """Hold DVC's lock of the project, after whoever holds it now."""
    from dvc.lock import LockError

    patience = Patience(say)
    while True:
        try:
            repo.lock.lock()
            break
        except LockError:
            patience.tell(_holder(Path(repo.tmp_dir or "")))
    try:
        yield
    finally:
        repo.lock.unlock()


def blockers(lines: Iterable[str]) -> list[int]:
    """Return the processes that a DVC command says it is blocked by; it has failed then."""
    said = "\n".join(lines)
    _, blocked, by = said.partition(BLOCKED)
    return [int(pid) for pid in PID.findall(by)] if blocked else []


def wait_for_end(pids: list[int], say: Say, look: Callable[[float], None] = time.sleep) -> None:
    """Wait until none of these processes is left, a minute at most: they may have gone on."""
    left_s = SAY_EVERY_S
    patience = Patience(say)
    while left_s > 0 and (left := [pid for pid in pids if is_there(pid)]):
        patience.tell(", ".join(_named(pid) for pid in left))
        look(LOOK_S)
        left_s -= LOOK_S


def is_there(pid: int) -> bool:
    """Tell whether a process is more than an entry that nobody has collected."""
    return bool(_command(pid))


def _what_to_do(root: Path, error: Exception) -> str:
    from dvc.scm import SCMError

    if isinstance(error, SCMError):
        return (
            f"{error}. Type: git init && git add . && git commit -m Start. Or, to work at a desk"
            " without git: dvc config core.no_scm true"
        )
    if not (root / ".dvc").is_dir():
        return f"{root} has no .dvc. Type: dvc init, and git add .dvc"
    return str(error)


def _holder(folder: Path) -> str:
    """Name who holds DVC's lock: the process writes its id into the file."""
    pid = 0
    with suppress(OSError, ValueError):
        pid = int((folder / "lock").read_text().split()[0])
    if not _command(pid):
        return f"another DVC command, which holds {folder / 'lock'}"
    return f"{_named(pid)}, which holds DVC's lock of this project"


def _named(pid: int) -> str:
    return f"process {pid} ({_command(pid)})"


def _command(pid: int) -> str:
    """Return what a process was started as; nothing for one that is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return " ".join(os.fsdecode(word) for word in words if word)[:200]
