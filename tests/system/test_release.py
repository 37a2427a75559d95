"""Releases on real hosts: processes of their own, over real sockets, from a real store."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from slipway.errors import SlipwayError
from slipway.fleet.client import HttpClient
from slipway.fleet.launch import local as launch
from slipway.fleet.launch.local import read_process
from slipway.fleet.processes import alive, identify
from slipway.fleet.release import release
from slipway.fleet.rollback import rollback
from tests.fleet_site import (
    CONFIG,
    MODEL,
    PATIENT,
    PROJECT,
    Callers,
    Site,
    make_site,
    running_site,
)
from tests.host_client import BODY, check_down, check_refusals, check_serving
from tests.support.pace import limit
from tests.support.ports import free_ports
from tests.support.processes import slipway
from tests.support.waiting import wait_until

KILLED_IN_CANARY = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from slipway.fleet import takeover
from slipway.fleet.inventory import load_fleet
from slipway.fleet.keys import find_keys
from slipway.fleet.release import release
from tests.fleet_site import CONFIG, Site

root = Path(sys.argv[2])
send = takeover.send

def linger(*args):  # in the canary, with the lease renewed, until somebody kills this process
    print("canary", flush=True)
    time.sleep(600)
    return send(*args)

takeover.send = linger
site = Site(root, load_fleet(root, "local"), find_keys(root))
release(site.controller(print), sys.argv[3], CONFIG)
"""


@pytest.fixture
def site(tmp_path):
    with running_site(tmp_path / "project") as running:
        yield running


@contextmanager
def release_in_canary(site: Site, version: str):
    """Run a release in a process of its own that stays in its canary."""
    command = [sys.executable, "-c", KILLED_IN_CANARY, str(PROJECT), str(site.root), version]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            for line in child.stdout:
                if line.strip() == "canary":
                    break
            yield child
        finally:
            child.kill()


def served(site: Site) -> dict[str, tuple[str | None, str | None]]:
    client = HttpClient()
    found = {}
    for host in site.fleet.hosts:
        status = client.status(host)
        model = status.models.get(MODEL) if status else None
        found[host.name] = (model.stable, model.candidate) if model else (None, None)
    return found


def test_the_life_of_versions_on_a_fleet_whose_callers_never_notice_a_failure(site):
    one, two, worse = site.publish(), site.publish(bias=0.05), site.publish(bias=3.0)
    first = site.release(one)
    assert first.decision == "first release"
    assert served(site) == {"a": (one, None), "b": (one, None)}
    for host in site.fleet.hosts:
        check_serving(HttpClient(), host, MODEL, one)
        check_refusals(HttpClient(), host, MODEL)

    with Callers(site) as callers:
        promoted = site.release(two)
        assert (promoted.decision, promoted.previous) == ("promoted", one)
        rejected = site.release(worse)
        assert (rejected.decision, rejected.ok) == ("rejected", False)
        assert "log loss" in rejected.reason
        again = site.release(worse)
        assert again.decision == "refused"
        assert site.release(two).decision == "already serves"
        back = rollback(site.controller())
        assert (back.stable, back.hosts) == (one, {"a": "serves it", "b": "serves it"})
        assert site.release(two).decision == "refused"
    assert callers.errors == []
    assert {one, two} <= callers.versions <= {one, two, worse}
    assert callers.asked > 100
    assert served(site) == {"a": (one, None), "b": (one, None)}


def test_kill_9_in_the_canary_leaves_stable_serving_and_the_next_run_releases(site):
    one, two = site.publish(), site.publish(bias=0.05)
    site.release(one)
    with Callers(site) as callers:
        with release_in_canary(site, two) as child:
            assert served(site) == {"a": (one, two), "b": (one, two)}
            time.sleep(CONFIG.lease_s * 1.5)  # the beats keep it alive
            assert served(site) == {"a": (one, two), "b": (one, two)}
            with pytest.raises(SlipwayError, match="another release of flights on local is runn"):
                site.release(two)
            child.send_signal(signal.SIGKILL)
        # nobody tells the hosts: the lease runs out on their own clocks
        wait_until(lambda: served(site) == {"a": (one, None), "b": (one, None)}, "taken back")
        assert site.release(two).decision == "promoted"
    assert callers.errors == []
    assert served(site) == {"a": (two, None), "b": (two, None)}


def test_a_host_that_is_frozen_in_the_canary_is_named_and_the_version_is_not_blamed(
    site, monkeypatch
):
    one, two = site.publish(), site.publish(bias=0.05)
    site.release(one)
    monkeypatch.setattr("slipway.fleet.client.INFER_TIMEOUT_S", 1.0)
    frozen = read_process(site.fleet, "a").pid

    class Freezing(HttpClient):
        """Freezes the host in the midst of asking it."""

        def __init__(self) -> None:
            super().__init__()
            self.asked = 0

        def infer(self, *host, **body):
            self.asked += 1
            if self.asked == 30:
                os.kill(frozen, signal.SIGSTOP)
            return super().infer(*host, **body)

    with pytest.raises(SlipwayError, match="host a does not answer") as caught:
        release(replace(site.controller(), client=Freezing()), two, PATIENT)
    assert "says nothing about v" in str(caught.value)
    channel = site.controller().channel()
    assert (channel.stable, channel.candidate, channel.rejected) == (one, None, [])
    wait_until(lambda: served(site)["b"] == (one, None), "taken back")
    host = site.fleet.hosts[1]
    assert HttpClient().infer(host, MODEL, BODY, key="k", version=None).version == one
    os.kill(frozen, signal.SIGCONT)
    monkeypatch.undo()
    assert site.release(two).decision == "promoted"
    assert served(site) == {"a": (two, None), "b": (two, None)}


def test_hosts_are_started_once_and_outlive_what_started_them(tmp_path):
    site = make_site(tmp_path / "project")
    try:
        slipway(site.root, "fleet", "up", "local")
        running = {h.name: launch.read_process(site.fleet, h.name) for h in site.fleet.hosts}
        assert all(process and alive(process) for process in running.values())
        assert all(os.getsid(p.pid) == p.pid for p in running.values())
        assert "was running" in slipway(site.root, "fleet", "up", "local").stdout
        assert site.up() == []
        assert {h: launch.read_process(site.fleet, h) for h in running} == running
        done = slipway(site.root, "fleet", "down", "local")
        assert done.stdout == "2 hosts stopped\n"
        assert not any(alive(process) for process in running.values())
        assert slipway(site.root, "fleet", "down", "local").stdout == "no host was running\n"
        check_down(HttpClient(), site.fleet.hosts[0], MODEL)
    finally:
        site.down()


def test_hosts_that_were_stopped_serve_the_same_version_when_started_again(site):
    one = site.publish()
    site.release(one)
    site.down()
    assert site.up() == ["a", "b"]
    assert site.release(one).decision == "already serves"
    assert served(site) == {"a": (one, None), "b": (one, None)}


def test_a_host_whose_process_was_killed_is_started_again_alone(site):
    process = launch.read_process(site.fleet, "b")
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not alive(process), "killed")
    assert site.up() == ["b"]


def test_a_port_in_use_is_told_and_no_host_is_started(tmp_path):
    site = make_site(tmp_path / "project")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", site.fleet.hosts[1].port))
        taken.listen()
        done = slipway(site.root, "fleet", "up", "local", code=1)
    assert f"port {site.fleet.hosts[1].port} of host b is in use by process" in done.stderr
    assert f"process {os.getpid()}" in done.stderr
    assert "no host was started" in done.stderr
    assert not list(site.fleet.state.glob("*.pid"))
    check_down(HttpClient(), site.fleet.hosts[0], MODEL)


def test_when_one_host_does_not_come_up_the_others_are_stopped_again(tmp_path):
    site = make_site(tmp_path / "project")
    (site.fleet.state / "b").parent.mkdir(parents=True, exist_ok=True)
    (site.fleet.state / "b").write_text("not a folder")  # so host b cannot keep its state
    with pytest.raises(SlipwayError, match=r"host b ended while starting; the end of .*b\.log"):
        site.up()
    assert not list(site.fleet.state.glob("*.pid"))
    wait_until(
        lambda: not any(launch.port_problem(h.address, h.port) for h in site.fleet.hosts),
        "the ports are free",
    )


def test_a_recycled_pid_is_never_taken_for_a_host(tmp_path):
    site = make_site(tmp_path / "project")
    site.fleet.state.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            told = identify(stranger.pid, [])
            older = told.model_copy(update={"started": told.started - 1})
            (site.fleet.state / "a.pid").write_text(older.model_dump_json())
            assert site.down() == []
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_hosts_with_other_settings_than_the_inventory_are_not_taken_for_the_same(site):
    path = site.root / "configs/fleets/local.yaml"
    old, new = str(site.fleet.hosts[0].admin_port), str(free_ports(1)[0])
    path.write_text(path.read_text().replace(old, new))
    done = slipway(site.root, "fleet", "up", "local", code=1)
    assert "host a runs as process" in done.stderr
    assert "slipway fleet down local" in done.stderr


def test_status_for_machines_has_every_host_also_those_that_are_down(site):
    one = site.publish()
    site.release(one)
    os.kill(launch.read_process(site.fleet, "b").pid, signal.SIGKILL)
    told = json.loads(slipway(site.root, "status", "--json").stdout)
    a, b = told["hosts"]
    assert told["fleet"] == "local"
    assert list(a) == ["name", "url", "grpc", "ready", "problem", "models"]
    assert (a["ready"], a["models"][MODEL]["stable"]) == (True, one)
    assert list(a["models"][MODEL]) == ["stable", "candidate", "percent", "since", "reason"]
    assert (b["ready"], b["models"]) == (False, {})
    table = slipway(site.root, "status").stdout
    assert one[:12] in table
    assert "down" in table


def test_rollback_trace_and_verify_from_the_command_line(site):
    one, two = site.publish(), site.publish(bias=0.05)
    site.release(one)
    site.release(two)
    planned = slipway(site.root, "rollback", MODEL, "--fleet", "local", "--dry-run").stdout
    assert planned.startswith("would be done: stable v")
    assert served(site)["a"] == (two, None)
    done = slipway(site.root, "rollback", MODEL, "--fleet", "local", "--why", "too hot", "--json")
    assert json.loads(done.stdout)["stable"] == one
    assert served(site) == {"a": (one, None), "b": (one, None)}

    traced = slipway(site.root, "trace", two[:12]).stdout
    assert two in traced
    assert "pipeline: flights" in traced
    assert "too hot" in traced
    assert json.loads(slipway(site.root, "trace", two, "--json").stdout)["version"] == two
    assert "holds no version ffffffffffff" in slipway(site.root, "trace", "f" * 12, code=1).stderr

    bundle = site.root / ".slipway/store/bundles" / MODEL / one
    told = slipway(site.root, "verify", str(bundle)).stdout
    assert "golden     40 rows run here" in told
    model = bundle / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    assert "model.onnx: SHA-256 is" in slipway(site.root, "verify", str(bundle), code=1).stderr


def test_a_damaged_bundle_never_reaches_a_host_and_stable_goes_on(site):
    one, two = site.publish(), site.publish(bias=0.05)
    site.release(one)
    signature = site.root / ".slipway/store/bundles" / MODEL / two / "bundle.sig"
    signature.write_bytes(signature.read_bytes().replace(b'"sig"', b'"gis"'))
    with pytest.raises(SlipwayError, match=r"bundle\.sig"):
        site.release(two)
    assert served(site) == {"a": (one, None), "b": (one, None)}
    assert site.controller().channel().serial == 1


def test_a_version_that_this_machine_cannot_run_is_rejected_with_the_hosts_reason(site):
    one, two = site.publish(), site.publish(bias=0.05, shift=0.01)
    site.release(one)
    done = site.release(two)
    assert done.decision == "rejected"
    assert "answers its 40 golden rows differently on this machine" in done.reason
    assert served(site) == {"a": (one, None), "b": (one, None)}


def with_flows(site: Site) -> Site:
    """Let the site's folder pass for a checkout, which holds the flows that the CLI starts."""
    for name in ("flows", "tasks"):
        (site.root / name).symlink_to(PROJECT / name)
    return site


@pytest.mark.slow
def test_a_release_from_the_command_line_runs_as_a_flow_and_tells_what_it_measured(site):
    one, worse = site.publish(), with_flows(site).publish(bias=3.0)
    told = slipway(site.root, "release", MODEL, "--fleet", "local", "--version", one[:12])
    assert "answers as proven" in told.stdout
    assert "first release: there was no stable version" in told.stdout
    done = slipway(
        site.root, "release", MODEL, "--fleet", "local", "--version", worse, "--json", code=1
    )
    result = json.loads(done.stdout)
    assert (result["decision"], result["previous"]) == ("rejected", one)
    assert {line["measure"] for line in result["numbers"]["lines"]} >= {"AUC", "log loss", "p99 ms"}
    assert "canary on local" in done.stderr


def test_what_cannot_be_released_is_told_before_any_flow_starts(site):
    with_flows(site)
    done = slipway(site.root, "release", MODEL, "--fleet", "local", code=1)
    assert "models/flights/payload does not exist" in done.stderr
    done = slipway(site.root, "release", MODEL, "--fleet", "local", "--version", "f" * 12, code=1)
    assert "holds no version ffffffffffff of flights" in done.stderr
    done = slipway(site.root, "release", MODEL, "--fleet", "local", "--version", "latest", code=2)
    assert "'latest' is no version" in done.stderr
    assert not (site.root / ".slipway/prefect").exists()


@pytest.mark.slow
def test_ctrl_c_on_the_terminal_takes_the_candidate_back_and_ends_with_130(site):
    one, two = site.publish(), with_flows(site).publish(bias=0.05)
    site.release(one)
    config = site.root / "configs/flights.yaml"
    config.write_text(config.read_text().replace("requests: 100", "requests: 100000"))
    command = [sys.executable, "-m", "slipway.cli", "release", MODEL, "--fleet", "local"]
    command += ["--version", two]
    with subprocess.Popen(
        command, cwd=site.root, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            canary = {"a": (one, two), "b": (one, two)}
            wait_until(lambda: served(site) == canary, "a canary", 60)
            os.killpg(child.pid, signal.SIGINT)  # as a terminal does
            assert child.wait(limit(60)) == 130
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    channel = site.controller().channel()
    assert (channel.stable, channel.candidate, channel.rejected) == (one, None, [])
    wait_until(lambda: served(site) == {"a": (one, None), "b": (one, None)}, "taken back")
