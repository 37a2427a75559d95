"""Real host processes over real sockets, with real bundles in a file store."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from slipway.bundle.manifest import EVIDENCE_FILES, MANIFEST, PAYLOAD_FILES, SIGNATURE
from slipway.store.bundles import upload_bundle
from slipway.store.split import takes_candidate
from tests.bundles import make_bundle, make_keys
from tests.hosts import FLEET, HostProcess, Site, answers, environment, row, serve_one
from tests.support.pace import limit, within
from tests.support.waiting import wait_until

BUNDLE_FILES = sorted((*PAYLOAD_FILES, *EVIDENCE_FILES, MANIFEST, SIGNATURE))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def hosts() -> Iterator[list[HostProcess]]:
    """Hosts that a test starts; none outlives it."""
    started: list[HostProcess] = []
    yield started
    for host in started:
        if host.process:
            host.stop(signal.SIGKILL)


def run(hosts: list[HostProcess], site: Site, name: str = "a", **options: Any) -> HostProcess:
    host = HostProcess(site, name, **options)
    hosts.append(host)
    return host.start()


def serving(hosts: list[HostProcess], site: Site, **bundle: Any) -> tuple[HostProcess, str]:
    """Publish a version, point at it, and start a host that serves it."""
    version = site.publish(**bundle)
    site.point(version)
    host = run(hosts, site)
    host.wait_for(stable=version)
    return host, version


def beat_until_taken(host: HostProcess, candidate: str) -> None:
    """Renew the lease until the host serves the candidate: it is probed for a second or two."""

    def taken() -> bool:
        host.site.beat()
        return host.status()[host.site.model]["candidate"] == candidate

    host.wait(taken, "a candidate")


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# --- bundles


@pytest.mark.parametrize("file", BUNDLE_FILES)
def test_a_bundle_with_one_changed_byte_is_refused_and_stable_serves_on(
    tmp_path_factory: pytest.TempPathFactory, tampering: HostProcess, file: str
) -> None:
    site = tampering.site
    stable = tampering.status()["flights"]["stable"]
    version = site.publish(bias=1.0 + BUNDLE_FILES.index(file))
    flip_a_byte(site.bundle(version) / file)
    site.point(version)
    status = tampering.wait(
        lambda: (s := tampering.status()["flights"]) and version in s["refused"] and s, "refused"
    )
    assert status["stable"] == stable
    assert f"{stable[:12]} goes on serving" in status["reason"]
    assert tampering.infer().json["model_version"] == stable
    assert tampering.ask("GET", "/v2/health/ready").status == 200


@pytest.fixture(scope="module")
def tampering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """A host whose store is tampered with; its stable version never changes."""
    yield from serve_one(tmp_path_factory.mktemp("tampering"))


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        ({"shift": 0.01}, "answers its 40 golden rows differently on this machine"),
        ({"memory_bytes": 2**60}, "requires 1,152,921,504,606,846,976 bytes of memory"),
        ({"proof": {"verdict": "fail"}}, "the verdict is fail"),
    ],
)
def test_a_bundle_that_is_not_proven_here_is_refused(
    tampering: HostProcess, bundle: dict[str, Any], reason: str
) -> None:
    stable = tampering.status()["flights"]["stable"]
    version = tampering.site.publish(bias=-float(len(reason)), **bundle)
    tampering.site.point(version)
    tampering.wait(
        lambda: reason in tampering.status()["flights"]["refused"].get(version, ""), reason
    )
    assert tampering.infer().json["model_version"] == stable


def test_a_bundle_of_an_unknown_builder_is_refused(tampering: HostProcess, tmp_path: Path) -> None:
    stable = tampering.status()["flights"]["stable"]
    version = make_bundle(tmp_path / "b", keys=make_keys(tmp_path / "strangers"), bias=99.0)
    upload_bundle(tampering.site.store, tmp_path / "b", "flights")
    tampering.site.point(version)
    tampering.wait(lambda: version in tampering.status()["flights"]["refused"], "refused")
    assert tampering.infer().json["model_version"] == stable


def test_a_refused_bundle_that_was_put_right_is_served(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, _ = serving(hosts, site)
    version = site.publish(bias=1.0)
    model = site.bundle(version) / "model.onnx"
    good = model.read_bytes()
    flip_a_byte(model)
    site.point(version)
    host.wait(lambda: version in host.status()["flights"]["refused"], "refused")
    model.write_bytes(good)
    host.wait_for(stable=version, refused={})


# --- channels


def test_without_a_channel_a_host_is_alive_and_not_ready(
    site: Site, hosts: list[HostProcess]
) -> None:
    host = run(hosts, site)
    assert host.ask("GET", "/v2/health/live").status == 200
    assert host.ask("GET", "/v2/health/ready").status == 503
    host.wait(lambda: host.infer().status == 404, "told that there is no model")
    version = site.publish()
    site.point(version, reason="first release")
    status = host.wait_for(stable=version)
    assert (status["serial"], status["reason"]) == (1, "first release")
    assert host.ask("GET", "/v2/health/ready").status == 200


def test_a_first_candidate_can_be_asked_by_version_before_anything_is_stable(
    site: Site, hosts: list[HostProcess]
) -> None:
    host = run(hosts, site)
    host.wait(lambda: host.metric("slipway_store_reachable"), "looked once")
    version = site.publish()
    site.point(None, version, percent=0)
    host.wait_for(candidate=version)
    assert host.infer(version=version).status == 200
    assert host.infer().json["code"] == "not_ready"
    assert host.ask("GET", "/v2/health/ready").status == 503


def test_the_canary_answers_its_share_by_key_and_on_every_host_alike(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, stable = serving(hosts, site)
    other = run(hosts, site, "b")
    other.wait_for(stable=stable)
    candidate = site.publish(bias=1.0)
    site.point(stable, candidate, percent=30)
    for each in (host, other):
        each.wait_for(candidate=candidate, percent=30, mode="canary")
    for n in range(40):
        key = f"caller-{n}"
        expected = candidate if takes_candidate(candidate, key, 30) else stable
        for each in (host, other):
            answer = each.infer(key=key)
            assert answer.json["model_version"] == expected
            assert answer.headers["Slipway-Version"] == expected
    assert host.infer(version=candidate[:12]).json["model_version"] == candidate


def test_a_shadow_answers_nobody_and_is_compared(site: Site, hosts: list[HostProcess]) -> None:
    host, stable = serving(hosts, site)
    candidate = site.publish(bias=1.0)
    site.point(stable, candidate, percent=100, mode="shadow")
    host.wait_for(candidate=candidate, mode="shadow")
    assert host.infer().json["model_version"] == stable
    compared = {"version": candidate, "outcome": "compared"}
    host.wait(lambda: host.metric("slipway_shadow_requests_total", **compared) == 1, "compared")
    difference = host.metric("slipway_shadow_difference_max", version=candidate)
    assert difference == pytest.approx(answers(1.0) - answers(0.0), abs=1e-6)


def test_a_promotion_and_a_roll_back_cost_no_request(site: Site, hosts: list[HostProcess]) -> None:
    host, first = serving(hosts, site)
    second = site.publish(bias=1.0)
    expected = {first: answers(0.0), second: answers(1.0)}
    wrong: list[Any] = []
    seen: set[str] = set()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = host.infer()
            version = answer.json.get("model_version")
            seen.add(version)
            value = answer.json["outputs"][0]["data"][0] if answer.status == 200 else None
            if value is None or abs(value - expected[version]) > 1e-6:
                wrong.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for stable in (second, first, second):
            site.point(stable)
            host.wait_for(stable=stable)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert seen == {first, second}


def test_a_rolled_back_version_is_let_go_and_its_predecessor_kept_in_the_cache(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, first = serving(hosts, site)
    second, third = site.publish(bias=1.0), site.publish(bias=2.0)
    cache = host.state / "cache" / "flights"
    site.point(second)
    host.wait_for(stable=second)
    site.point(first, rejected=(second,), reason="worse")
    host.wait_for(stable=first, reason="worse")
    host.wait(lambda: host.metric("slipway_loaded") == 1, "unloaded")
    assert host.infer(version=second).json["code"] == "version_not_found"
    assert {path.name for path in cache.iterdir()} == {first, second}
    site.point(third)
    host.wait_for(stable=third)
    host.wait(lambda: {path.name for path in cache.iterdir()} == {first, third}, "forgotten")


def test_an_older_channel_played_back_is_refused_with_an_alarm(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, first = serving(hosts, site)
    second = site.publish(bias=1.0)
    site.point(second)
    host.wait_for(stable=second)
    site.channel_file(2).unlink()
    alarm = "the store shows channel serial 1, but 2 was applied before"
    host.wait_for(alarms=[alarm], stable=second, serial=2)
    assert host.metric("slipway_alarms_total", model="flights") == 1
    host.stop(signal.SIGKILL)
    host.start()
    host.wait_for(alarms=[alarm], stable=second, serial=2)
    assert host.infer().json["model_version"] == second != first


def test_the_same_serial_with_other_contents_is_refused_with_an_alarm(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, first = serving(hosts, site)
    second = site.publish(bias=1.0)
    site.channel_file(1).unlink()
    site.channel = None
    site.point(second)
    alarm = "channel serial 1 now has other contents than those that were applied"
    host.wait_for(alarms=[alarm], stable=first, serial=1)
    assert host.metric("slipway_alarms_total", model="flights") == 1
    assert host.infer().json["model_version"] == first
    site.point(second)
    host.wait_for(stable=second, serial=2)


def test_a_channel_of_a_strangers_key_is_refused_with_an_alarm(
    site: Site, hosts: list[HostProcess], tmp_path: Path
) -> None:
    host, first = serving(hosts, site)
    second = site.publish(bias=1.0)
    own, site.keys = site.keys, make_keys(tmp_path / "strangers")
    site.point(second)
    host.wait(lambda: host.status()["flights"]["alarms"], "alarmed")
    site.keys = own
    assert "channel refused" in host.status()["flights"]["alarms"][0]
    assert host.infer().json["model_version"] == first


def test_a_damaged_channel_is_named_in_the_status_while_the_host_goes_on_and_is_got_over(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, first = serving(hosts, site)
    second = site.publish(bias=1.0)
    site.point(second)
    site.channel_file(2).write_bytes(b"")
    host.wait(lambda: host.status()["flights"]["alarms"], "alarmed")
    (alarm,) = host.status()["flights"]["alarms"]
    assert f"channels/{FLEET}/flights/000000000002.json: " in alarm
    host.stop(signal.SIGKILL)
    host.start()
    host.wait_for(stable=first)
    assert host.infer().json["model_version"] == first
    site.channel_file(2).unlink()
    site.channel_file(2).mkdir()  # what cannot even be read
    host.wait(lambda: "000000000002.json" in (host.status()["flights"]["trouble"] or ""), "told")
    site.point(second)
    host.wait_for(stable=second, serial=3, trouble=None)


def test_junk_in_the_store_under_another_name_takes_nothing_from_a_ready_host(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, stable = serving(hosts, site)
    site.store.create(f"channels/{FLEET}/junk/000000000001.json", b"{}")
    host.wait(lambda: host.status().get("junk", {}).get("alarms"), "alarmed")
    assert host.ask("GET", "/v2/health/ready").status == 200
    assert host.ask("GET", "/v2/models/junk").status == 503  # it may be one yet
    assert host.ask("GET", "/v2/models/nope").status == 404
    assert host.infer().json["model_version"] == stable


def test_what_cannot_be_read_of_one_model_does_not_stop_the_others(
    site: Site, hosts: list[HostProcess]
) -> None:
    (site.folder / f"store/channels/{FLEET}/broken/000000000001.json").mkdir(parents=True)
    host, _ = serving(hosts, site)
    assert host.metric("slipway_store_reachable") == 0
    second = site.publish(bias=1.0)
    site.point(second)
    host.wait_for(stable=second)


# --- leases


def test_a_candidate_lives_by_its_beats_and_is_dropped_without(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, stable = serving(hosts, site)
    candidate = site.publish(bias=1.0)
    lease_s = limit(0.5)
    site.point(stable, candidate, percent=100, lease_s=lease_s)
    beat_until_taken(host, candidate)
    until = time.monotonic() + 2 * lease_s
    while time.monotonic() < until:
        site.beat()
        assert host.infer(key="k").json["model_version"] == candidate
        time.sleep(0.2)
    status = host.wait_for(candidate=None)
    assert status["stable"] == stable
    assert status["reason"] == f"no beat for candidate {candidate[:12]} within {lease_s:g} s"
    assert host.infer(key="k").json["model_version"] == stable
    assert host.metric("slipway_lease_drops_total", model="flights") == 1
    beat_until_taken(host, candidate)


def test_a_new_host_takes_a_candidate_only_when_it_sees_a_beat(
    site: Site, hosts: list[HostProcess]
) -> None:
    stable, candidate = site.publish(), site.publish(bias=1.0)
    site.point(stable, candidate, percent=100)
    site.beat()
    host = run(hosts, site)
    host.wait_for(stable=stable)
    time.sleep(0.3)
    assert host.status()["flights"]["candidate"] is None
    site.beat()
    host.wait_for(candidate=candidate)


# --- without a store, and after a crash


def test_a_host_serves_on_without_its_store_and_drops_the_candidate(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, stable = serving(hosts, site)
    candidate = site.publish(bias=1.0)
    site.point(stable, candidate, percent=100, lease_s=1.0)
    beat_until_taken(host, candidate)
    store = site.folder / "store"
    store.rename(site.folder / "gone")
    host.wait_for(candidate=None)
    assert host.infer(key="k").json["model_version"] == stable
    assert host.metric("slipway_store_reachable") == 0
    assert host.ask("GET", "/v2/health/ready").status == 200
    (site.folder / "gone").rename(store)
    host.wait(lambda: host.metric("slipway_store_reachable"), "reachable again")


def test_a_store_that_hangs_holds_up_neither_answers_nor_leases_nor_the_end(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, stable = serving(hosts, site)
    candidate = site.publish(bias=1.0)
    site.point(stable, candidate, percent=100, lease_s=1.0)
    beat_until_taken(host, candidate)
    os.mkfifo(site.channel_file(3))  # reading it waits for a writer for ever
    host.wait_for(candidate=None)
    assert host.infer(key="k").json["model_version"] == stable
    assert host.metric("slipway_store_reachable") == 0
    with within(3):
        assert host.stop() == 0


@pytest.mark.parametrize("restarted", [False, True])
def test_until_it_has_looked_a_host_calls_no_model_missing(
    site: Site, hosts: list[HostProcess], restarted: bool
) -> None:
    version = site.publish()
    site.point(version)
    host = HostProcess(site)
    hosts.append(host)
    if restarted:
        host.start().wait_for(stable=version)
        host.stop(signal.SIGKILL)
        shutil.rmtree(host.state / "cache")
        bundle = site.bundle(version).rename(site.folder / "away")  # it has to wait for it
    newest = site.channel_file(2 if restarted else 1)
    envelope = site.channel_file(1).read_bytes()
    newest.unlink(missing_ok=True)
    os.mkfifo(newest)  # the first look takes until somebody writes
    host.start()
    for asked in (
        host.infer(),
        host.infer(version=version),
        host.ask("GET", "/v2/models/flights"),
        host.ask("GET", "/v2/models/flights/ready"),
        host.ask("GET", "/v2/models/nope"),
    ):
        assert (asked.status, asked.json["code"]) == (503, "not_ready")
        assert asked.headers["Retry-After"]
    with suppress(BrokenPipeError):  # it sees that this is no file, and looks again
        newest.write_bytes(envelope)
    newest.unlink()
    site.channel_file(1).write_bytes(envelope)
    if restarted:
        bundle.rename(site.bundle(version))
    host.wait_for(stable=version)
    assert host.infer(version=version).status == 200
    assert host.ask("GET", "/v2/models/nope").status == 404


def test_a_killed_host_without_a_store_serves_from_its_own_cache(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, stable = serving(hosts, site)
    since = host.status()["flights"]["since"]
    host.wait(lambda: since in (host.state / "applied/flights.json").read_text(), "remembered")
    host.stop(signal.SIGKILL)
    shutil.rmtree(site.folder / "store")
    host.start()
    assert host.wait_for(stable=stable)["since"] == since
    assert host.infer().json["model_version"] == stable
    assert host.ask("GET", "/v2/health/ready").status == 200


def test_a_killed_host_serves_what_it_served_when_the_wanted_version_is_refused(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, first = serving(hosts, site)
    second = site.publish(bias=1.0)
    flip_a_byte(site.bundle(second) / "model.onnx")
    site.point(second)
    host.wait(lambda: second in host.status()["flights"]["refused"], "refused")
    host.stop(signal.SIGKILL)
    shutil.rmtree(site.folder / "store")
    host.start()
    host.wait_for(stable=first, serial=2)
    assert host.infer().json["model_version"] == first


def test_a_cache_that_was_tampered_with_is_fetched_again_or_not_served(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, stable = serving(hosts, site)
    cached = host.state / "cache" / "flights" / stable / "model.onnx"
    host.stop()
    flip_a_byte(cached)
    host.start()
    (alarm,) = host.wait_for(stable=stable)["alarms"]
    assert "in the cache was refused and fetched anew: model.onnx" in alarm
    host.stop()
    shutil.rmtree(site.folder / "store")
    flip_a_byte(cached)
    host.start()
    host.wait(lambda: stable in host.status()["flights"]["refused"], "refused")
    assert host.ask("GET", "/v2/health/ready").status == 503
    assert host.infer().json["code"] == "not_ready"


def test_a_version_whose_key_is_no_longer_trusted_is_not_served_after_a_restart(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, stable = serving(hosts, site)
    for key in (site.keys.trusted_folder / "builder").iterdir():
        key.unlink()
    assert host.infer().status == 200
    host.stop()
    host.start()
    host.wait(lambda: stable in host.status()["flights"]["refused"], "refused")
    assert host.infer().status == 503


# --- starting and stopping


def test_a_host_told_to_stop_answers_what_it_took_and_exits_with_0(
    site: Site, hosts: list[HostProcess]
) -> None:
    host, _ = serving(hosts, site)
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=limit(10))
        body = json.dumps(row()).encode()
        while not stop.is_set():
            try:
                connection.request("POST", "/v2/models/flights/infer", body)
                response = connection.getresponse()
            except (ConnectionError, http.client.RemoteDisconnected):
                return
            statuses.append(response.status)
            assert json.loads(response.read())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: statuses.count(200) > 10, "some answers")
    with within(3):
        assert host.stop() == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 503}


@pytest.mark.parametrize("which", ["port", "admin_port"])
def test_a_port_in_use_is_a_clear_error(site: Site, which: str) -> None:
    host = HostProcess(site)
    option = "--" + which.replace("_", "-")
    with socket.create_server(("127.0.0.1", getattr(host, which))):
        done = subprocess.run(
            host.command(), capture_output=True, text=True, env=environment(), timeout=limit(20)
        )
    port = getattr(host, which)
    assert done.returncode == 1
    assert (
        f"slipway: port {port} on 127.0.0.1 is in use; stop what listens there or give {option}"
        " another" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_second_host_with_the_same_state_is_refused(site: Site, hosts: list[HostProcess]) -> None:
    run(hosts, site)
    done = subprocess.run(
        HostProcess(site).command(),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=limit(20),
    )
    assert done.returncode == 1
    assert "another host uses this folder" in done.stderr


def test_a_damaged_memory_is_named_and_nothing_starts(site: Site, hosts: list[HostProcess]) -> None:
    host, _ = serving(hosts, site)
    host.stop()
    (host.state / "applied" / "flights.json").write_text("{")
    done = subprocess.run(
        host.command(), capture_output=True, text=True, env=environment(), timeout=limit(20)
    )
    assert done.returncode == 1
    assert "applied/flights.json: cannot be read" in done.stderr


def test_a_running_host_has_imported_nothing_of_the_pipelines(
    site: Site, hosts: list[HostProcess]
) -> None:
    version = site.publish()
    site.point(version)
    host = HostProcess(site)
    hosts.append(host)
    host.python = (sys.executable, "-X", "importtime")
    host.start()
    host.wait_for(stable=version)
    assert host.infer().status == 200
    assert host.stop() == 0
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in host.log.read_text().splitlines()
        if line.startswith("import time:")
    }
    assert {"uvloop", "onnxruntime"} <= imported
    # pandas and cloudpickle are not on the list: pyarrow imports them where they are installed.
    assert not imported & {
        "torch", "prefect", "dvc", "great_expectations", "joblib", "dill", "onnx", "fastapi",
        "starlette", "uvicorn", "model_signing", "sklearn",
    }  # fmt: skip


def test_the_log_is_json_lines(shared: HostProcess) -> None:
    shared.infer(row(id="a\r\n\x1b[31m"))
    lines = shared.log.read_text().splitlines()
    assert all(json.loads(line)["level"] for line in lines)
    assert "host started" in shared.log.read_text()


def test_a_state_folder_is_its_owners_alone(shared: HostProcess) -> None:
    modes = {path.name: os.stat(path).st_mode & 0o777 for path in shared.state.iterdir()}
    assert modes["cache"] == modes["applied"] == 0o700
