"""Write one JSON line per request, if asked to: who asked what, and where the time went.

A full disk or a stopped reader costs lines, which are counted, and never a request.
"""

import logging
import os
import select
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import Final, NamedTuple

from slipway.errors import SlipwayError
from slipway.host.observe.finished import Finished
from slipway.host.observe.sink import Sink

log = logging.getLogger(__name__)

WAITING_MAX: Final = 100_000
"""About a second of the fastest model's requests, and 30 MiB."""


class AccessLine(NamedTuple):
    """What is noted about one request; texts and numbers only, so that no tensor is kept."""

    time_s: float
    request_id: str
    caller: str
    model: str
    version: str | None
    code: str
    rows: int | None
    queue_s: float | None
    run_s: float | None
    total_s: float | None
    batch: int | None
    batch_rows: int | None


class AccessLog:
    """An observer of finished requests that writes to a file, or to stdout for `-`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._open()
        self._torn = False
        self._reopen = False
        self._sink: Sink[AccessLine] = Sink("access", self._write, WAITING_MAX)

    @property
    def dropped(self) -> int:
        """How many lines were lost."""
        return self._sink.dropped

    def finished(self, request: Finished) -> None:
        """Note one request."""
        self._sink.put(_note(request))

    def reopen(self) -> None:
        """Open the file anew before the next line, after somebody has moved it away."""
        self._reopen = True

    def close(self) -> None:
        """Write what waits."""
        self._sink.close()

    def _open(self) -> int:
        if self._path == "-":
            return sys.stdout.fileno()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self._path, flags, 0o600)
        except OSError as error:
            raise SlipwayError(f"--access-log: {self._path}: {error.strerror}") from None

    def _write(self, records: list[AccessLine]) -> None:
        if self._reopen and self._path != "-":
            self._reopen = False
            self._replace()
        if not records:
            return
        lines = [render(record).encode() for record in records]
        for text in group(lines) if self._path == "-" else [b"".join(lines)]:
            # After a full disk the file may end inside a line, which must not swallow the next.
            data = b"\n" + text if self._torn else text
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
                self._torn = written < len(data)

    def _replace(self) -> None:
        """Open anew; if that fails, the file that was moved away still takes lines."""
        try:
            old, self._file = self._file, self._open()
        except SlipwayError as error:
            log.error("the access log stays where it was", extra={"reason": str(error)})
            return
        os.close(old)


def group(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines to writes that a pipe takes whole: processes of one host share stdout."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > select.PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece


def render(record: AccessLine) -> str:
    """Return the line; ASCII without control characters, so that nothing sent can forge one."""
    (time_s, request_id, caller, model, version, code, rows, queue_s, run_s, total_s, batch,
     batch_rows) = record  # fmt: skip
    at = datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")
    share_s = run_s * rows / batch_rows if run_s is not None and rows and batch_rows else None
    return (
        f'{{"time":"{at}","request_id":{quoted(request_id)},"caller":{quoted(caller)},'
        f'"model":{quoted(model)},"version":{_text(version)},"code":"{code}",'
        f'"rows":{_whole(rows)},"queue_ms":{_ms(queue_s)},"run_ms":{_ms(run_s)},'
        f'"share_ms":{_ms(share_s)},"total_ms":{_ms(total_s)},"batch":{_whole(batch)}}}\n'
    )


def _note(request: Finished) -> AccessLine:
    job = request.job
    rows = queue_s = run_s = total_s = number = batch_rows = None
    if job is not None:
        rows = job.rows
        total_s = time.perf_counter() - job.arrived
        batch = job.batch
        if batch is not None:
            queue_s = batch.started - job.arrived
            run_s = batch.ended - batch.started
            number = batch.number
            batch_rows = batch.rows
    return AccessLine(
        time_s=time.time(),
        request_id=request.request_id,
        caller=request.caller,
        model=request.model,
        version=request.version,
        code=request.code,
        rows=rows,
        queue_s=queue_s,
        run_s=run_s,
        total_s=total_s,
        batch=number,
        batch_rows=batch_rows,
    )


def _text(value: str | None) -> str:
    return "null" if value is None else quoted(value)


def _whole(value: int | None) -> str:
    return "null" if value is None else str(value)


def _ms(seconds: float | None) -> str:
    return "null" if seconds is None else f"{seconds * 1e3:.3f}"
