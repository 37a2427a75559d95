import os
import signal
from pathlib import Path

import pytest

from tasks.train import failure


@pytest.fixture
def job(tmp_path: Path) -> Path:
    failure.prepare(tmp_path / "job.json", 2)
    return tmp_path / "job.json"


def fail(job: Path, error: Exception, monkeypatch, *, rank: int, attempt: int = 0) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(attempt))
    failure.note(job, error)


def test_where_no_rank_said_anything_there_is_no_cause(job: Path):
    assert failure.cause(job, 2) is None


def test_the_rank_that_failed_first_is_the_cause(job: Path, monkeypatch):
    fail(job, OSError(28, os.strerror(28)), monkeypatch, rank=1)
    fail(job, RuntimeError("Connection closed by peer"), monkeypatch, rank=0)
    found = failure.cause(job, 2)
    assert found is not None
    assert (found.rank, found.message) == (1, "OSError: [Errno 28] No space left on device")


def test_of_several_tries_the_last_one_counts(job: Path, monkeypatch):
    fail(job, RuntimeError("first"), monkeypatch, rank=0)
    fail(job, RuntimeError("second"), monkeypatch, rank=1, attempt=1)
    found = failure.cause(job, 2)
    assert found is not None
    assert (found.attempt, found.message) == (1, "RuntimeError: second")


def test_last_words_of_any_length_take_no_more_room_than_was_made(job: Path, monkeypatch):
    fail(job, ValueError("\N{GRINNING FACE}" * 5000), monkeypatch, rank=0)
    assert job.with_name("failure-0.json").stat().st_size == failure.ROOM_BYTES
    found = failure.cause(job, 2)
    assert found is not None
    assert found.message.startswith("ValueError: \N{GRINNING FACE}")


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (OSError(28, "full"), True),
        (ValueError("a defect"), True),
        (RuntimeError("Connection closed by peer"), False),
        (ConnectionResetError(), False),
    ],
)
def test_torchrun_is_ended_where_another_try_would_fail_likewise(
    job: Path, monkeypatch, error: Exception, ended: bool
):
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number)))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    fail(job, error, monkeypatch, rank=0)
    assert told == ([(os.getppid(), signal.SIGTERM)] if ended else [])
