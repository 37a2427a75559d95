"""What a rank that failed leaves behind, for the stage to tell: torchrun keeps only an exit code.

The files are there, with room in them, before the ranks start, so that one on a full disk can still
say so.
"""

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

ROOM_BYTES = 4096

ATTEMPT, RANK, UNDER_TORCHRUN = "TORCHELASTIC_RESTART_COUNT", "RANK", "TORCHELASTIC_RUN_ID"
"""Set by torchrun in its ranks."""

MAY_PASS = (RuntimeError, ConnectionError, TimeoutError)
"""What torch raises of another rank that is gone, or of a device: the same step may succeed on
a new try. Every other error would come again, as a training that goes on computes the same bits."""


@dataclass(frozen=True)
class Failure:
    """The end of one rank."""

    attempt: int
    at_s: float
    rank: int
    message: str


def prepare(job: Path, ranks: int) -> None:
    """Make room beside the job for each rank's last words."""
    for rank in range(ranks):
        _file(job, rank).write_bytes(b" " * ROOM_BYTES)


def note(job: Path, error: Exception) -> None:
    """Leave what a rank failed by; end torchrun where another try would fail likewise.

    The message is cut so that it fits into its room, whatever characters it has.
    """
    rank = int(os.environ[RANK])
    words = " ".join(f"{type(error).__name__}: {error}".split())
    found = Failure(int(os.environ.get(ATTEMPT, 0)), time.time(), rank, words[:1000])
    content = json.dumps(asdict(found), ensure_ascii=False).encode()[:ROOM_BYTES]
    with suppress(OSError), _file(job, rank).open("r+b") as file:
        file.write(content.ljust(ROOM_BYTES))
    if UNDER_TORCHRUN in os.environ and not isinstance(error, MAY_PASS):
        os.kill(os.getppid(), signal.SIGTERM)


def cause(job: Path, ranks: int) -> Failure | None:
    """Return what the first rank failed by in the last try; None where none could say so."""
    found = []
    for rank in range(ranks):
        with suppress(OSError, ValueError, TypeError):
            found.append(Failure(**json.loads(_file(job, rank).read_bytes())))
    last = max((failure.attempt for failure in found), default=0)
    tries = (failure for failure in found if failure.attempt == last)
    return min(tries, key=lambda failure: failure.at_s, default=None)


def _file(job: Path, rank: int) -> Path:
    return job.with_name(f"failure-{rank}.json")
