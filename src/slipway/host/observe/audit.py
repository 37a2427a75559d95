"""Keep an append-only log of what administrators did, on the disk before they hear `200`.

Each line carries the SHA-256 of the line before it, so an edited, removed or inserted line shows
from there on. Who can write the file can also forge its whole end: compare `head` with one noted
elsewhere, as the host's log does at its start.
"""

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from slipway.errors import SlipwayError

log = logging.getLogger(__name__)

FIRST: Final = "0" * 64
"""What the first line says of the line before it."""

TORN: Final = "torn"
"""The event that follows a line which a crash cut short."""


class Audit:
    """One audit file. Writing waits for the disk: call `record` from a thread, any thread."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        try:
            self._file = _open(path)
            self.head, self._torn_bytes = _last_line(path)
        except OSError as error:
            raise SlipwayError(f"{path}: the audit log: {error.strerror}") from None

    def record(self, event: str, **fields: Any) -> None:
        """Write a line and wait for the disk; raise SlipwayError if it is full."""
        with self._lock:
            if self._torn_bytes:
                # Nothing is taken away, not even half a line: it ends here, and the next says so.
                self._append(b"\n", {"event": TORN, "bytes": self._torn_bytes})
                self._torn_bytes = 0
            self._append(b"", {"event": event, **fields})

    def _append(self, before: bytes, record: dict[str, Any]) -> None:
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        whole = {"time": at, **record, "previous": self.head}
        line = json.dumps(whole, default=str).encode()
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, before + line + b"\n") <= len(before + line):
                raise OSError("the disk took a part of the line")
            os.fsync(self._file)
        except OSError as error:
            log.error("the audit log cannot be written", extra={"reason": str(error)})
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            with contextlib.suppress(OSError):  # that may have failed too: look what is there
                self.head, self._torn_bytes = _last_line(self._path)
            raise SlipwayError("the audit log cannot be written; see this host's log") from None
        self.head = _digest(line)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def verify(path: Path) -> int | None:
    """Return the number of the first line that is not as it was written; None if all are.

    A line that is no JSON is right only if the next one says that it was torn.
    """
    expected = FIRST
    lines = path.read_bytes().split(b"\n")
    ended = lines.pop() == b""
    for number, line in enumerate(lines, 1):
        record = _parse(line)
        if record is None:
            following = _parse(lines[number]) if number < len(lines) else None
            if following is None or following.get("event") != TORN:
                return number
        elif record.get("previous") != expected:
            return number
        expected = _digest(line)
    return None if ended else len(lines) + 1


def _open(path: Path) -> int:
    """Open for appending; a new file's name is on the disk before anything is in it."""
    file = os.open(
        path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    os.fchmod(file, 0o600)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
    return file


def _last_line(path: Path) -> tuple[str, int]:
    """Return the digest of the last line, and its length if it was cut short."""
    data = path.read_bytes()
    if not data:
        return FIRST, 0
    line = data.removesuffix(b"\n").rpartition(b"\n")[2]
    return _digest(line), 0 if data.endswith(b"\n") else len(line)


def _parse(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        record = json.loads(line)
        return record if isinstance(record, dict) else None
    return None


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
