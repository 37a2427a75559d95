import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from slipway.host.process.notify import ALIVE, READY, STOPPING, notify, reloading, watchdog_s
from tests.support.pace import limit, within


@pytest.fixture(params=["file", "abstract"])
def manager(request):
    """A service manager: a datagram socket in the file system or in the kernel alone."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
    ):
        name = f"{folder}/notify"
        listener.bind(name if request.param == "file" else f"\0{name}")
        listener.settimeout(limit(5))
        yield listener, {"NOTIFY_SOCKET": name if request.param == "file" else f"@{name}"}


@pytest.mark.parametrize("word", [READY, STOPPING, ALIVE])
def test_each_word_is_one_message(manager, word):
    listener, environ = manager
    assert notify(word, environ=environ)
    assert listener.recv(100) == word.encode()


def test_several_lines_are_one_message(manager):
    listener, environ = manager
    notify(READY, "STATUS=2 models", environ=environ)
    assert listener.recv(100) == b"READY=1\nSTATUS=2 models"


def test_reloading_says_when_in_microseconds_of_the_monotonic_clock(manager):
    listener, environ = manager
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    assert reloading(environ)
    first, second = listener.recv(100).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert before - 1e-6 <= int(second.partition("=")[2]) / 1e6 <= time.monotonic()


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative/path", "/no/such/socket"])
def test_nobody_who_listens_is_no_error(address):
    assert not notify(READY, environ={} if address is None else {"NOTIFY_SOCKET": address})


def test_a_manager_that_does_not_listen_holds_nothing_up(manager):
    _, environ = manager
    with within(5):
        sent = [notify(ALIVE, environ=environ) for _ in range(2000)]
    assert False in sent


def test_nothing_stays_open(manager):
    _, environ = manager
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        notify(ALIVE, environ=environ)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({"WATCHDOG_USEC": "15000000"}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdogs_patience_is_known_if_it_is_meant_for_this_process(environ, expected):
    assert watchdog_s(environ) == expected


def test_it_needs_nothing_but_the_standard_library():
    source = Path(sys.modules[notify.__module__].__file__ or "")
    code = f"import runpy, sys; runpy.run_path({str(source)!r}); print('slipway' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
