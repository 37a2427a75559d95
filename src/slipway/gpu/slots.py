"""Take turns on the GPUs of this machine, in order of arrival, across flows and terminals.

Whoever wants devices leaves a ticket: a file that names them, locked by its process. A ticket
may go on when no living ticket before it names one of its devices. The kernel drops the lock
with the process, however that ends, so a dead holder frees its devices at once and nothing
has to expire. Those who wait sleep in the kernel, on the lock of the ticket before them.

Turns are taken per user: a folder that several users may write into could be emptied by any.
"""

import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from slipway.errors import SlipwayError
from slipway.gpu.devices import GpuDevice, present

WAITING = "waiting for "
"""How a line begins that says who is waited for; a flow shows such a line of a stage."""

FOLDERS = (Path("/run/lock"), Path("/dev/shm"), Path(tempfile.gettempdir()))  # noqa: S108  owner and mode are checked
"""Where tickets may lie; the first that can be written to. Not XDG_RUNTIME_DIR: it differs
between a terminal and a service of the same user, who must meet."""

SLOTS = "SLIPWAY_SLOTS"
"""Names the folder of the tickets in a container, which has folders and users of its own."""


@dataclass(frozen=True)
class Ticket:
    """Who wants or has which devices."""

    number: int
    """Its place in the order of arrival."""
    pid: int
    what: str
    """What runs: `train@flights`."""
    where: str
    """The checkout that it runs in."""
    since: str
    """When it arrived, or got the devices; ISO 8601."""
    devices: tuple[str, ...]
    """Names of the devices; none, if the ticket cannot be read, stands for all."""

    def meets(self, other: "Ticket") -> bool:
        """Tell whether two tickets name a device in common."""
        both = self.devices and other.devices
        return not both or bool(set(self.devices) & set(other.devices))

    def __str__(self) -> str:
        return f"{self.what} in {self.where} (process {self.pid}, since {self.since})"


@dataclass(frozen=True)
class Slots:
    """The devices of a machine and the folder of their tickets."""

    folder: Path
    devices: tuple[GpuDevice, ...]
    pid: int = 0
    """The process that people know who takes a slot by; 0: the one that does."""

    @classmethod
    def here(cls) -> "Slots":
        """Return those of this machine."""
        if given := os.environ.get(SLOTS):
            return cls(Path(given), present())
        base = next((path for path in FOLDERS if os.access(path, os.W_OK)), FOLDERS[-1])
        return cls(base / f"slipway-{os.getuid()}", present())


@contextmanager
def hold(
    slots: Slots, devices: Iterable[GpuDevice], what: str, say: Callable[[str], None]
) -> Iterator[None]:
    """Have the devices to oneself for as long as the block runs; wait for them if need be."""
    names = tuple(sorted(device.name for device in devices))
    if not names:
        yield
        return
    try:
        file, ticket, path = _arrive(slots, what, names)
    except OSError as error:
        raise SlipwayError(
            f"{slots.folder} cannot be written ({error.strerror}): GPU slots are kept there;"
            " make room, or remove it"
        ) from None
    with file:
        try:
            if _wait(slots.folder, ticket, say):
                _write(file, replace(ticket, since=_now()))
            yield
        finally:
            path.unlink(missing_ok=True)
            fcntl.flock(file, fcntl.LOCK_UN)  # also for processes that were forked meanwhile


def queue(folder: Path) -> list[Ticket]:
    """List the tickets of living processes, in order of arrival."""
    if not folder.is_dir():
        return []
    return [ticket for path in _paths(folder) if (ticket := _read_living(path))]


def holders(tickets: Iterable[Ticket]) -> dict[str, list[Ticket]]:
    """Return who has each device, first in its list, and who waits for it, in order."""
    found: dict[str, list[Ticket]] = {}
    for ticket in tickets:
        for name in ticket.devices:
            found.setdefault(name, []).append(ticket)
    return found


def _arrive(slots: Slots, what: str, names: tuple[str, ...]) -> tuple[IO[str], Ticket, Path]:
    """Leave a ticket behind all others. It has its lock and its content before it has its name."""
    folder = slots.folder
    _make_private(folder)
    with open(folder / "lock", "a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # held for milliseconds
        for path in _paths(folder):
            if _read_living(path) is None:
                path.unlink(missing_ok=True)
        number = max((_number(path) for path in _paths(folder)), default=0) + 1
        where = str(Path.cwd())
        pid = slots.pid or os.getpid()
        ticket = Ticket(number, pid, what=what, where=where, since=_now(), devices=names)
        aside, path = folder / "new", folder / f"{number:012}.ticket"
        aside.unlink(missing_ok=True)
        file = open(aside, "x+")  # noqa: SIM115  the caller's: the lock goes with it
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            _write(file, ticket)
            aside.rename(path)
        except BaseException:
            file.close()
            raise
    return file, ticket, path


def _wait(folder: Path, mine: Ticket, say: Callable[[str], None]) -> bool:
    """Sleep until no ticket before this one names its devices; return whether that took time."""
    waited = False
    while ahead := [t for t in queue(folder) if t.number < mine.number and t.meets(mine)]:
        first = ahead[0]
        others = f"; {len(ahead) - 1} more before this one" if ahead[1:] else ""
        say(f"{WAITING}{', '.join(mine.devices)}: {first}{others}")
        waited = True
        with suppress(FileNotFoundError), open(folder / f"{first.number:012}.ticket") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
    return waited


def _read_living(path: Path) -> Ticket | None:
    """Read a ticket; None if its process is gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            text = file.read()
    except FileNotFoundError:
        return None
    try:
        said = json.loads(text)
        return Ticket(**{**said, "devices": tuple(map(str, said["devices"]))})
    except (ValueError, TypeError, KeyError):
        return Ticket(
            _number(path), 0, what="a stage", where="a place unknown", since="?", devices=()
        )


def _write(file: IO[str], ticket: Ticket) -> None:
    file.seek(0)
    file.write(json.dumps(asdict(ticket)))
    file.truncate()
    file.flush()


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.ticket") if path.stem.isdecimal())


def _number(path: Path) -> int:
    return int(path.stem)


def _make_private(folder: Path) -> None:
    """Make the folder; refuse one that somebody else has laid there to see or stop others."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    open_to_others = stat.S_IMODE(found.st_mode) & 0o022
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or open_to_others:
        raise SlipwayError(
            f"{folder} must be a folder that only its user, {os.getuid()}, may change, and is"
            " not: GPU slots are kept there; have it removed"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
