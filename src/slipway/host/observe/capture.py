"""Keep a sample of requests and their answers as Parquet files, for replay and for drift.

Off by default: these are the callers' data. What is redacted is gone before a request is queued,
and the rest lies in files that only this host's user can read. One row of a file is one row of a
request. Files appear whole, under their last name, when they are full or old enough.
"""

import contextlib
import logging
import os
import random
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from slipway.host.observe.finished import Array, Finished
from slipway.host.observe.rows import Captured, write_rows
from slipway.host.observe.sink import Sink

log = logging.getLogger(__name__)

WAITING_MAX: Final = 1000
WAITING_BYTES: Final = 64 * 1024 * 1024
"""In memory, queued and gathered together."""

FILE_BYTES: Final = WAITING_BYTES // 4
"""In memory; a file of large tensors is written before it has all its rows."""

FILE: Final = re.compile(r"capture-\d{13}-[0-9a-f]{8}\.parquet(\.part)?")
"""Time in ms, and chance: only such files are ever deleted."""


@dataclass(frozen=True)
class CaptureOptions:
    """What is captured, and for how long it is kept."""

    folder: Path
    """Of this host's own; made with mode 0700."""
    ratio: float
    """Share of the answered requests, from 0 to 1."""
    redact: frozenset[str] = frozenset()
    """Inputs and outputs whose values are never kept."""
    file_rows: int = 10_000
    """A file is written when so many rows are there,"""
    file_s: float = 60.0
    """or when its first is so old; a crash loses that much."""
    request_bytes: int = 1024 * 1024
    """Larger requests are not captured: copying them would hold up the others."""
    max_bytes: int = 1024**3
    """All files together; the oldest go first."""
    max_age_s: float = 7 * 24 * 3600.0
    """Older files go too."""


class Capture:
    """An observer of finished requests."""

    def __init__(self, options: CaptureOptions, draw: Callable[[], float] = random.random) -> None:
        self._options = options
        self._draw = draw
        self._gathered: dict[tuple[str, str], list[Captured]] = {}
        self._taken_bytes = 0  # by the event loop
        self._done_bytes = 0  # by the thread
        self._skipped = 0  # by the event loop
        self._lost = 0  # by the thread
        options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in options.folder.glob("capture-*.parquet.part"):  # of a crash
            part.unlink(missing_ok=True)
        self._sink: Sink[Captured] = Sink("capture", self._write, WAITING_MAX)

    @property
    def dropped(self) -> int:
        """How many requests were chosen and not kept."""
        return self._sink.dropped + self._skipped + self._lost

    def finished(self, request: Finished) -> None:
        """Take a copy of a request, if chance and room allow."""
        if self._draw() >= self._options.ratio or request.code != "ok":
            return
        inputs, outputs, contract = request.inputs, request.outputs, request.contract
        if inputs is None or outputs is None or contract is None:
            return
        size = _bytes_of(inputs) + _bytes_of(outputs)
        waiting = self._taken_bytes - self._done_bytes
        if size > self._options.request_bytes or waiting + size > WAITING_BYTES:
            self._skipped += 1
            return
        datatypes = {tensor.name: tensor.datatype for tensor in contract.inputs}
        datatypes |= {tensor.name: tensor.datatype for tensor in contract.outputs}
        taken = self._sink.put(
            Captured(
                time_s=time.time(),
                request_id=request.request_id,
                model=request.model,
                version=request.version or "",
                caller=request.caller,
                rows=request.rows,
                batchable=contract.batchable,
                inputs=self._copy(inputs),
                outputs=self._copy(outputs),
                datatypes=datatypes,
                size_bytes=size,
            )
        )
        if taken:
            self._taken_bytes += size

    def close(self) -> None:
        """Write what is there, for a moment at most."""
        self._options = replace(self._options, file_s=0.0)
        self._sink.close(5.0)

    def _copy(self, tensors: Mapping[str, Array]) -> dict[str, Array | None]:
        """Copy the values: their memory is the connection's, or the engine's next batch's."""
        redact = self._options.redact
        return {name: None if name in redact else x.copy() for name, x in tensors.items()}

    def _write(self, records: list[Captured]) -> None:
        """Gather; write the files that are due. In the sink's thread."""
        for record in records:
            self._gathered.setdefault((record.model, record.version), []).append(record)
        for key, gathered in list(self._gathered.items()):
            if self._due(gathered):
                del self._gathered[key]
                self._write_file(gathered)

    def _due(self, gathered: list[Captured]) -> bool:
        return (
            sum(record.rows for record in gathered) >= self._options.file_rows
            or sum(record.size_bytes for record in gathered) >= FILE_BYTES
            or time.time() - gathered[0].time_s >= self._options.file_s
        )

    def _write_file(self, gathered: list[Captured]) -> None:
        """Write one file, or lose its requests and say so."""
        folder = self._options.folder
        name = f"capture-{int(time.time() * 1000):013}-{secrets.token_hex(4)}.parquet"
        part = folder / f"{name}.part"
        try:
            with open(part, "xb", opener=_private) as file:
                write_rows(gathered, file)
                file.flush()
                os.fsync(file.fileno())
            part.rename(folder / name)
            sweep(folder, self._options.max_bytes, self._options.max_age_s, time.time())
        except Exception:
            log.exception("captured requests are lost", extra={"requests": len(gathered)})
            self._lost += len(gathered)
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        finally:
            self._done_bytes += sum(record.size_bytes for record in gathered)


def sweep(folder: Path, max_bytes: int, max_age_s: float, now: float) -> None:
    """Delete capture files that are too old, then the oldest until the rest is small enough."""
    total = 0
    for path in sorted(folder.iterdir(), reverse=True):  # the newest first
        if not FILE.fullmatch(path.name):
            continue
        state = path.lstat()
        total += state.st_size
        if total > max_bytes or now - state.st_mtime > max_age_s:
            path.unlink(missing_ok=True)


def _bytes_of(tensors: Mapping[str, Array]) -> int:
    """Return the size in memory; text at its length, which an array of objects does not know."""
    total = 0
    for values in tensors.values():
        total += values.nbytes
        if values.dtype == object:
            total += sum(map(len, values.flat))
    return total


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
