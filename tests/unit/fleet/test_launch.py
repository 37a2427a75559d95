import os
import socket
import sys
import threading
import time
from dataclasses import replace

import pytest

from slipway.errors import SlipwayError
from slipway.fleet.client import HostStatus
from slipway.fleet.inventory import Credentials, Tls
from slipway.fleet.launch import local as launch
from slipway.fleet.launch.local import LocalLauncher
from slipway.fleet.processes import alive, identify
from tests.fleet_site import make_site


class Silent:
    """A client whose hosts never answer."""

    def status(self, host):
        return None

    def infer(self, host, model, body, *, key, version):
        raise AssertionError("not to be asked here")


class Strangers(Silent):
    """A client that finds another fleet's hosts on the ports."""

    def status(self, host):
        return HostStatus(name=host.name, fleet="another", ready=True)


def starting(program: str, **options: float) -> LocalLauncher:
    """A launcher whose hosts are a program of ours."""
    command = [sys.executable, "-c", program]
    return LocalLauncher(lambda fleet, host: [*command, host.name], **options)


SLEEPER = "import time; print('starting', flush=True); time.sleep(600)"


@pytest.fixture
def site(tmp_path):
    """A site whose hosts are programs that only sleep."""
    found = make_site(tmp_path)
    found.launcher = starting(SLEEPER)
    yield found
    found.down()


def test_a_port_that_is_free_is_no_problem_and_one_in_use_is_named(site):
    assert launch.port_problem("127.0.0.1", site.fleet.hosts[0].port) is None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        problem = launch.port_problem("127.0.0.1", taken.getsockname()[1])
    assert problem is not None
    assert problem.startswith(f"in use by process {os.getpid()}")


def test_a_port_that_is_let_go_in_a_moment_is_waited_for(site):
    host = site.fleet.hosts[0]
    taken = socket.create_server((host.address, host.port))
    threading.Timer(0.2, taken.close).start()
    with pytest.raises(SlipwayError, match="was not live"):  # and not that the port is in use
        site.launcher.up(site.fleet, Silent(), site.said.append, wait_s=0.1)


def test_an_address_that_this_machine_does_not_have_is_not_called_in_use():
    assert "not to be had" in str(launch.port_problem("192.0.2.1", 18081))


@pytest.mark.parametrize("client", [Silent(), Strangers()])
def test_hosts_that_are_not_live_in_time_are_stopped_again_and_their_log_is_shown(site, client):
    with pytest.raises(SlipwayError, match=r"host a was not live after 0 s") as caught:
        site.launcher.up(site.fleet, client, site.said.append, wait_s=0.3)
    assert "starting" in str(caught.value)
    assert len(site.said) == 2
    assert not list(site.fleet.state.glob("*.pid"))


class Refusing(Silent):
    """A client that the hosts refuse a number of times, and then know."""

    def __init__(self, times):
        self.times = times

    def status(self, host):
        self.times -= 1
        if self.times >= 0:
            return HostStatus(
                name=host.name, fleet="", ready=False, problem="does not know the key"
            )
        return HostStatus(name=host.name, fleet="local", ready=True)


def test_a_key_that_running_hosts_take_up_in_a_moment_is_waited_for(site):
    assert site.launcher.up(site.fleet, Refusing(3), site.said.append) == ["a", "b"]


def test_a_host_that_goes_on_refusing_is_stopped_again_with_its_reason(site):
    launcher = starting(SLEEPER, refused_wait_s=0.1)
    started = time.monotonic()
    with pytest.raises(SlipwayError, match=r"^host a: does not know the key$"):
        launcher.up(site.fleet, Refusing(1_000_000), site.said.append, wait_s=600)
    assert time.monotonic() - started < 300  # nobody waited for it to be live
    assert not list(site.fleet.state.glob("*.pid"))


def test_hosts_are_given_the_names_of_files_and_never_a_secret(tmp_path):
    fleet = make_site(tmp_path).fleet
    assert not {"--api-keys", "--tls-cert", "--tls-key"} & set(
        launch._command(fleet, fleet.hosts[0])
    )
    tls = Tls(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    credentials = Credentials(key_file=tmp_path / "secret", ca=tmp_path / "ca.crt")
    guarded = replace(fleet, api_keys=tmp_path / "k.json", tls=tls, credentials=credentials)
    command = launch._command(guarded, guarded.hosts[0])
    options = dict(zip(command[5::2], command[6::2], strict=True))
    assert options["--api-keys"] == str(tmp_path / "k.json")
    assert options["--tls-cert"] == str(tls.certificate)
    assert options["--tls-key"] == str(tls.key)
    assert not {str(credentials.key_file), str(credentials.ca)} & set(command)


def test_a_host_is_given_its_grpc_port_only_where_it_has_one(tmp_path):
    fleet = make_site(tmp_path).fleet
    host = fleet.hosts[0]
    command = launch._command(fleet, host)
    assert command[command.index("--grpc-port") + 1] == str(host.grpc_port)
    without = host.model_copy(update={"grpc_port": None})
    assert "--grpc-port" not in launch._command(fleet, without)


def test_ctrl_c_while_hosts_start_leaves_none_behind(site):
    pids = []

    class Interrupted(Silent):
        def status(self, host):
            pids.extend(launch.read_process(site.fleet, name).pid for name in "ab")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        site.launcher.up(site.fleet, Interrupted(), site.said.append)
    assert len(pids) == 2
    assert all(identify(pid, []) is None for pid in pids)


def test_a_host_that_ends_at_once_is_told_without_waiting(site):
    launcher = starting("raise SystemExit('no such store')")
    with pytest.raises(SlipwayError, match=r"host . ended (while starting|at once)") as caught:
        launcher.up(site.fleet, Silent(), site.said.append)
    assert "no such store" in str(caught.value)


def test_what_belongs_to_the_flow_is_not_handed_to_the_hosts(site, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("SLIPWAY_WORKSPACE", "/x")  # else a later run would take it for a leftover
    launcher = starting("import os; print(sorted(os.environ), flush=True); os.read(0,1)")
    with pytest.raises(SlipwayError):
        launcher.up(site.fleet, Silent(), site.said.append)
    told = launch.log_file(site.fleet, "a").read_text()
    assert "PATH" in told
    assert "PREFECT" not in told
    assert "SLIPWAY" not in told


def test_an_unreadable_pid_file_is_no_process(site):
    site.fleet.state.mkdir(parents=True)
    for text in ("", "12", '{"pid": 1}', "\0\0"):
        (site.fleet.state / "a.pid").write_text(text)
        assert launch.read_process(site.fleet, "a") is None


def test_down_also_stops_a_host_that_left_the_inventory(site):
    with pytest.raises(SlipwayError):
        site.launcher.up(site.fleet, Silent(), site.said.append, wait_s=0.0)
    host = site.fleet.hosts[1]
    started = launch._start(site.fleet, host, site.launcher.command(site.fleet, host))
    (site.fleet.state / "b.pid").rename(site.fleet.state / "gone.pid")
    assert site.down() == ["gone"]
    assert not alive(started)


def test_a_host_started_by_another_name_of_the_interpreter_is_the_same_host(site):
    host = site.fleet.hosts[0]
    site.fleet.state.mkdir(parents=True)
    command = site.launcher.command(site.fleet, host)
    launch._start(site.fleet, host, command)
    assert launch._runs(site.fleet, host, ["/bin/python3", *command[1:]])
    with pytest.raises(SlipwayError, match="with other settings"):
        launch._runs(site.fleet, host, [*command, "--port", "1"])
