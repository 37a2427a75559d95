import os
import socket
import struct
import subprocess
import sys
import time

import pytest

from slipway.fleet.processes import (
    Process,
    alive,
    identify,
    listener,
    stop,
    users_among,
    users_behind,
)

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)"

NOBODY = 65534


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


def known(child) -> Process:
    process = identify(child.pid, ["sleep", "60"])
    assert process is not None
    return process


def test_a_running_process_is_known_again(sleeper):
    assert alive(known(sleeper))
    assert alive(Process.model_validate_json(known(sleeper).model_dump_json()))


def test_the_same_pid_started_at_another_time_or_boot_is_another_process(sleeper):
    process = known(sleeper)
    assert not alive(process.model_copy(update={"started": process.started + 1}))
    assert not alive(process.model_copy(update={"boot": "another"}))


def test_a_process_that_ended_is_not_alive_even_as_a_zombie(sleeper):
    process = known(sleeper)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # ended, not yet collected
    assert not alive(process)
    assert identify(sleeper.pid, []) is None


def test_a_process_is_told_to_stop_and_waited_for(sleeper):
    process = known(sleeper)
    assert stop([process], grace_s=10.0) == []
    assert not alive(process)


def test_a_process_that_is_deaf_to_sigterm_is_killed_after_its_grace():
    command = [sys.executable, "-c", DEAF + "; time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        process = known(child)
        started = time.monotonic()
        assert stop([process], grace_s=0.2) == [process]
        assert time.monotonic() - started >= 0.2
        assert not alive(process)


def test_another_process_under_the_same_pid_is_never_touched(sleeper):
    recycled = known(sleeper).model_copy(update={"started": 1})
    assert stop([recycled], grace_s=1.0) == []
    assert sleeper.poll() is None


def test_stopping_what_is_gone_already_is_no_error(sleeper):
    process = known(sleeper)
    sleeper.kill()
    sleeper.wait()
    assert stop([process], grace_s=1.0) == []


def test_whoever_listens_on_a_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert listener(taken.getsockname()[1]).startswith(f"process {os.getpid()} (")


def ends(client: socket.socket) -> set[int]:
    """Return who is at the other end of a connection."""
    return users_behind(client.getpeername()[:2], client.getsockname()[:2])


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1"])
def test_the_user_at_the_other_end_is_known(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        with socket.create_connection(server.getsockname()[:2]) as client:
            assert ends(client) == {os.getuid()}
        port = server.getsockname()[1]
    assert users_behind((address, port), (address, 1)) == set()


HOST, CALLER = ("127.0.0.1", 0x1F90), ("127.0.0.1", 0x8001)
ANY, ANY6, NONE = "00000000", "0" * 32, "00000000:0000"
LOCAL, MAPPED = (
    "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))
    for packed in (b"\x7f\0\0\1", b"\0" * 10 + b"\xff\xff\x7f\0\0\1")
)
OTHER = LOCAL.replace("01", "02")


@pytest.mark.parametrize(
    ("rows", "users"),
    [
        ([(f"{LOCAL}:1F90", NONE, "0A", 7)], {7}),
        ([(f"{MAPPED}:1F90", NONE, "0A", 7)], {7}),
        ([(f"{ANY}:1F90", NONE, "0A", 7)], {7}),
        ([(f"{ANY6}:1F90", NONE, "0A", 7)], {7}),
        ([(f"{OTHER}:1F90", NONE, "0A", 7)], set()),
        ([(f"{LOCAL}:1F91", NONE, "0A", 7)], set()),
        ([(f"{LOCAL}:1F90", NONE, "07", 7)], set()),  # bound only
        ([(f"{LOCAL}:1F90", NONE, "0A", 7), (f"{ANY6}:1F90", NONE, "0A", 8)], {7}),
        ([(f"{LOCAL}:1F90", f"{LOCAL}:8001", "01", 8)], {8}),  # has closed its listener
        ([(f"{MAPPED}:1F90", f"{MAPPED}:8001", "01", 8)], {8}),
        ([(f"{LOCAL}:1F90", f"{LOCAL}:8002", "01", 8)], set()),  # another connection
        ([(f"{LOCAL}:8001", f"{LOCAL}:1F90", "01", 8)], set()),  # our own end
    ],
)
def test_only_who_can_have_the_connection_counts(rows, users):
    told = [["0:", at, of, state, "", "", "", str(user), "0", "1"] for at, of, state, user in rows]
    assert users_among(told, HOST, CALLER) == users


@pytest.fixture
def nobody():
    """Make sockets as another user does."""
    if os.getuid() != 0:
        pytest.skip("only root can listen as another user")
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::"])
def test_another_user_who_listens_is_known_even_after_he_closed_the_listener(nobody, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as server:
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind((address, 0))
        server.listen()
        with socket.create_connection(("127.0.0.1", server.getsockname()[1])) as client:
            assert NOBODY in ends(client)
            with server.accept()[0]:
                server.close()
                assert ends(client) == {NOBODY}


def test_another_user_who_listens_elsewhere_on_that_port_stands_in_nobodys_way(nobody):
    with socket.socket() as elsewhere, socket.socket(socket.AF_INET6) as everywhere:
        elsewhere.bind(("127.0.0.2", 0))
        elsewhere.listen()
        port = elsewhere.getsockname()[1]
        everywhere.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        everywhere.bind(("::", port))
        everywhere.listen()
        os.seteuid(0)
        server = socket.create_server(("127.0.0.1", port))
        with server, socket.create_connection(("127.0.0.1", port)) as client:
            assert ends(client) == {0}


def test_a_listener_that_cannot_be_seen_is_another_process():
    with socket.socket() as bound_only:
        bound_only.bind(("127.0.0.1", 0))
        assert listener(bound_only.getsockname()[1]) == "another process"
