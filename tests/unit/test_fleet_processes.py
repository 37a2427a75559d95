import os
import socket
import subprocess
import sys
import time

import pytest

from slipway.fleet.processes import Process, alive, identify, listener, listening_users, stop

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


def test_the_user_who_listens_on_a_port_is_known():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert listening_users(taken.getsockname()[1]) == set()
        taken.listen()
        assert listening_users(taken.getsockname()[1]) == {os.getuid()}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can listen as another user")
def test_another_user_who_listens_on_a_port_is_known():
    os.seteuid(NOBODY)
    try:
        taken = socket.create_server(("127.0.0.1", 0))
    finally:
        os.seteuid(0)
    with taken:
        assert listening_users(taken.getsockname()[1]) == {NOBODY}


def test_a_listener_that_cannot_be_seen_is_another_process():
    with socket.socket() as bound_only:
        bound_only.bind(("127.0.0.1", 0))
        assert listener(bound_only.getsockname()[1]) == "another process"
