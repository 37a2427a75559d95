from pathlib import Path

import pytest

from slipway.fleet.client import HostStatus, ModelStatus
from slipway.fleet.inventory import Fleet, Host
from slipway.fleet.status import status_document
from slipway.fleet.watch import Awaited, Clock, uptake, wait_for
from tests.fleet_fakes import FakeTime

OLD, NEW = "a" * 64, "b" * 64
FLEET = Fleet(
    name="local",
    store="store",
    trusted_keys=Path("keys"),
    state=Path("state"),
    hosts=(
        Host(name="a", port=18081, grpc_port=18071, admin_port=18091),
        Host(name="b", port=18082, admin_port=18092),
    ),
)


def host(stable=OLD, candidate=None, serial=3, name="a", **model):
    told = ModelStatus(stable=stable, candidate=candidate, serial=serial, **model)
    return HostStatus(name=name, fleet="local", ready=True, models={"flights": told})


def seen(status, role="candidate", version=NEW, serial=3):
    return uptake({"a": status}, "flights", Awaited(version, role, serial))


def test_a_host_that_loaded_the_candidate_runs_it():
    found = seen(host(candidate=NEW))
    assert (found.running, found.complete) == (("a",), True)


@pytest.mark.parametrize(
    ("status", "role", "said"),
    [
        (None, "candidate", "host a: does not answer on its admin port"),
        (
            HostStatus(name="a", fleet="local", ready=True),
            "candidate",
            "host a: has not taken up channel serial 3",
        ),
        (
            HostStatus(name="a", fleet="", ready=False, problem="asks for a key (HTTP 401)"),
            "candidate",
            "host a: asks for a key (HTTP 401)",
        ),
        # a stale view: the channel it follows is not the one that was written
        (host(candidate=NEW, serial=2), "candidate", "has not taken up channel serial 3"),
        (host(candidate=NEW, serial=4), "candidate", "has not taken up channel serial 3"),
        (
            host(serial=7, alarms=["the store shows channel serial 3, but 7 was applied before"]),
            "candidate",
            "(the store shows channel serial 3, but 7 was applied before)",
        ),
        (
            host(serial=2, trouble="cannot follow: No space left on device"),
            "candidate",
            "has not taken up channel serial 3 (cannot follow: No space left on device)",
        ),
        (
            host(refused={NEW: "No space left on device"}, untried=[NEW]),
            "candidate",
            "host a: could not try it (No space left on device)",
        ),
        (host(reason="loading"), "candidate", "has not loaded it as candidate (loading)"),
        # the right version in the other role is not enough
        (host(stable=NEW), "candidate", "has not loaded it as candidate"),
        (host(candidate=NEW), "stable", "has not loaded it as stable"),
    ],
)
def test_a_host_that_does_not_run_it_yet_is_named_with_the_reason(status, role, said):
    found = seen(status, role)
    assert found.running == ()
    assert not found.complete
    assert said in str(found)


def test_a_refusal_counts_with_the_hosts_own_reason():
    found = seen(host(refused={NEW: "golden.arrow: answers differently"}))
    assert found.refused == {"a": "golden.arrow: answers differently"}
    assert not found.complete


def test_a_refusal_from_before_this_channel_does_not_count():
    assert seen(host(refused={NEW: "a download was cut off"}, serial=2)).refused == {}


def test_hosts_of_another_model_do_not_count():
    assert not uptake({"a": host(stable=NEW)}, "other", Awaited(NEW, "stable", 3)).complete


class Script:
    """A client whose hosts say one thing after the other."""

    def __init__(self, **told):
        self._told = told
        self.rounds = 0

    def status(self, host):
        statuses = self._told[host.name]
        if host.name == "a":
            self.rounds += 1
        return statuses[min(self.rounds - 1, len(statuses) - 1)]

    def infer(self, host, model, body, *, key, version):
        raise AssertionError("not to be asked here")


def wait(client, wait_s=10.0):
    time = FakeTime()
    clock = Clock(time.monotonic, time.sleep, time.time_ns)
    awaited = Awaited(NEW, "candidate", 3)
    found = wait_for(FLEET, "flights", awaited, client=client, clock=clock, wait_s=wait_s)
    return found, time.now_s


def test_waiting_ends_when_all_hosts_run_it():
    ready = host(candidate=NEW)
    client = Script(a=[None, host(), ready], b=[host(), ready, ready])
    found, waited_s = wait(client)
    assert found.running == ("a", "b")
    assert waited_s == pytest.approx(0.2)


def test_waiting_ends_at_once_when_one_host_refuses():
    client = Script(a=[None], b=[host(refused={NEW: "no"})])
    found, waited_s = wait(client)
    assert (found.refused, waited_s) == ({"b": "no"}, 0.0)


def test_waiting_ends_when_the_time_is_up():
    found, waited_s = wait(Script(a=[host(candidate=NEW)], b=[None]))
    assert list(found.missing) == ["b"]
    assert waited_s == pytest.approx(10.0, abs=0.2)


def test_a_host_that_refuses_this_caller_is_no_host_that_is_down():
    refusing = HostStatus(name="a", fleet="", ready=False, problem="asks for a key")
    first, second = status_document(FLEET, {"a": refusing, "b": None})["hosts"]
    assert (first["ready"], first["problem"]) == (False, "asks for a key")
    assert second["problem"] == "does not answer on its admin port"


def test_status_for_machines_has_the_documented_form():
    statuses = {
        "a": host(candidate=NEW, percent=20, since="2026-11-20T20:00:00+00:00", reason="canary"),
        "b": None,
    }
    assert status_document(FLEET, statuses) == {
        "fleet": "local",
        "hosts": [
            {
                "name": "a",
                "url": "http://127.0.0.1:18081",
                "grpc": "127.0.0.1:18071",
                "ready": True,
                "problem": None,
                "models": {
                    "flights": {
                        "stable": OLD,
                        "candidate": NEW,
                        "percent": 20,
                        "since": "2026-11-20T20:00:00+00:00",
                        "reason": "canary",
                    }
                },
            },
            {
                "name": "b",
                "url": "http://127.0.0.1:18082",
                "grpc": None,
                "ready": False,
                "problem": "does not answer on its admin port",
                "models": {},
            },
        ],
    }
