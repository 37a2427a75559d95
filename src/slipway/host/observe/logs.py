"""Log as JSON lines on stderr, from a thread of their own.

A terminal that is stopped or a full pipe must not hold up a request: lines wait in a queue of
limited length, and beyond that they are dropped. JSON escapes control characters, so nothing
that a caller sends can forge a line.
"""

import contextlib
import json
import logging
import queue
import sys
import threading
from datetime import UTC, datetime
from typing import Final, TextIO

WAITING_MAX: Final = 10_000
FLUSH_S: Final = 1.0

LEVELS: Final = {"slipway": logging.INFO, "opentelemetry": logging.WARNING}
"""Whose records are written; the exporter of traces tells of a dead collector by itself."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One record, one line: time, level, message, and whatever `extra` gave."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; ASCII only."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in _STANDARD},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class BackgroundHandler(logging.Handler):
    """Write records in a daemon thread, so that a stuck stream never keeps the process."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self.dropped = 0
        """How many lines were lost. An estimate: threads that log at once may count as one."""
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING_MAX)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is queued, for a moment at most."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(FLUSH_S)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                self.dropped += 1


def start_logging(stream: TextIO | None = None) -> BackgroundHandler:
    """Send all that `slipway` and OpenTelemetry log to the stream (stderr); close it at the end."""
    handler = BackgroundHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, level in LEVELS.items():
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    return handler
