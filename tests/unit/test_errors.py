import errno
import socket

import pytest

from slipway.errors import SlipwayError, Unavailable, may_pass


class Answered(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


def wrapped(error: Exception) -> Exception:
    outer = FileNotFoundError("https://example.org/table.csv")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        OSError(errno.EHOSTUNREACH, "no route"),
        socket.gaierror(socket.EAI_AGAIN, "try again"),
        Answered(503),
        Answered(429),
        wrapped(ConnectionRefusedError()),
        Unavailable("the store does not answer"),
    ],
)
def test_what_did_not_answer_may_pass(error: Exception):
    assert may_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(),
        OSError(errno.ENOSPC, "full"),
        socket.gaierror(socket.EAI_NONAME, "unknown"),
        Answered(404),
        wrapped(Answered(404)),
        SlipwayError("a gate"),
    ],
)
def test_what_would_be_the_same_next_time_does_not(error: Exception):
    assert not may_pass(error)
