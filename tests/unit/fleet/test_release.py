import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from slipway.errors import BundleRefused, ChannelRefused, SlipwayError
from slipway.fleet import takeover
from slipway.fleet.client import HostStatus
from slipway.fleet.controller import Controller
from slipway.fleet.keys import Keys
from slipway.fleet.release import release, serves
from slipway.fleet.rollback import rollback
from slipway.fleet.watch import Clock
from slipway.host.follow.memory import Memory, Remembered
from slipway.store.channel import Candidate, read_channel
from slipway.store.lease import read_beat
from tests.fleet_fakes import FakeHosts, FakeTime
from tests.fleet_site import CONFIG, MODEL, Site, make_site
from tests.host_client import check_down, check_refusals, check_serving

CONFIG = CONFIG.model_copy(update={"lease_s": 600.0})
"""A lease so long that the background never beats: time in here is not real."""


@dataclass
class Fleet:
    """A site whose hosts are fakes."""

    site: Site
    hosts: FakeHosts
    time: FakeTime
    versions: dict[str, str]
    said: list[str] = field(default_factory=list)

    @property
    def controller(self) -> Controller:
        clock = Clock(self.time.monotonic, self.time.sleep, self.time.time_ns)
        return Controller(
            self.site.fleet,
            MODEL,
            self.site.store,
            self.site.keys.release,
            self.hosts,
            clock,
            self.said.append,
            "run-1",
        )

    def release(self, name: str, **options):
        return release(self.controller, self.versions[name], CONFIG, **options)

    @property
    def channel(self):
        return self.controller.channel()

    @property
    def decisions(self):
        names = {version: name for name, version in self.versions.items()}
        return [(e["decision"], names[e["version"]]) for e in self.controller.ledger()]

    def damage_channel(self, serial: int, data: bytes | None = b"{") -> Path:
        """Damage the file of a serial, or remove it."""
        folder = self.site.root / f".slipway/store/channels/local/{MODEL}"
        path = folder / f"{serial:012d}.json"
        path.unlink() if data is None else path.write_bytes(data)
        return path

    def keep_copy(self, name: str = "a") -> None:
        """Let a host of this machine remember the channel, as one that applied it does."""
        signed = read_channel(self.site.store, "local", MODEL, self.controller.trusted)
        serial, envelope = signed.channel.serial, signed.envelope.decode()
        remembered = Remembered(serial=serial, digest=signed.digest, envelope=envelope)
        Memory(self.site.fleet.state / name).save(MODEL, remembered)

    def leave_candidate(self, name: str) -> None:
        """Leave the channel as a release does that is killed in its canary."""
        candidate = Candidate(
            version=self.versions[name], mode="canary", percent=20, lease_s=CONFIG.lease_s
        )
        controller = self.controller
        channel = controller.channel()
        channel = controller.write(
            channel, stable=channel.stable, candidate=candidate, reason="canary"
        )
        with controller.beating(channel.serial, CONFIG.lease_s):
            pass


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Four bundles in a store: one, two (much alike), worse (off by a lot), three."""
    site = make_site(tmp_path_factory.mktemp("site"))
    biases = {"one": 0.0, "two": 0.05, "three": 0.1, "worse": 3.0}
    return site, {name: site.publish(bias=bias) for name, bias in biases.items()}


@pytest.fixture
def fleet(published, tmp_path):
    template, versions = published
    shutil.copytree(template.root / ".slipway", tmp_path / ".slipway")
    moved = replace(
        template.fleet,
        store=str(tmp_path / ".slipway/store"),
        trusted_keys=tmp_path / ".slipway/fleets/local/trusted_keys",
        state=tmp_path / ".slipway/fleets/local/hosts",
    )
    keys = tmp_path / ".slipway/keys"
    site = Site(tmp_path, moved, Keys(keys / "builder.key", keys / "release.key"))
    hosts = FakeHosts(moved, site.store, site.controller().trusted)
    return Fleet(site, hosts, FakeTime(), versions)


def test_the_first_release_is_checked_and_says_that_nothing_was_compared(fleet):
    done = fleet.release("one")
    assert (done.decision, done.ok, done.previous, done.serial) == ("first release", True, None, 1)
    assert "no stable version" in done.reason
    assert fleet.channel.stable == fleet.versions["one"]
    assert fleet.channel.candidate is None
    assert fleet.decisions == [("first release", "one")]
    assert [x["measure"] for x in done.numbers["lines"]] == ["error share", "answers as proven"]
    assert done.numbers["candidate"]["requests"] == 2 * CONFIG.requests


def test_a_version_that_serves_already_gets_no_new_serial(fleet):
    fleet.release("one")
    done = fleet.release("one")
    assert (done.decision, done.ok) == ("already serves", True)
    assert done.reason == f"local already serves v{fleet.versions['one'][:12]}"
    assert fleet.channel.serial == 1


def test_a_good_candidate_is_promoted_by_way_of_a_canary(fleet):
    fleet.release("one")
    fleet.hosts.asked.clear()
    done = fleet.release("two")
    assert (done.decision, done.previous) == ("promoted", fleet.versions["one"])
    assert (fleet.channel.stable, fleet.channel.serial) == (fleet.versions["two"], 3)
    assert fleet.decisions[1:] == [("canary started", "two"), ("promoted", "two")]
    sides = [fleet.versions["one"], fleet.versions["two"]]
    for host in "ab":
        answered = [version for name, version, _ in fleet.hosts.asked if name == host]
        assert [answered.count(version) for version in sides] == [CONFIG.requests] * 2
    assert all(version is None for _, _, version in fleet.hosts.asked)  # routed by key alone


def test_the_two_sides_take_turns_so_that_a_slow_minute_hits_both(fleet):
    fleet.release("one")
    fleet.hosts.asked.clear()
    fleet.release("two")
    one, two = fleet.versions["one"], fleet.versions["two"]
    assert [version for _, version, _ in fleet.hosts.asked[:6]] == [two, one, one, two, two, one]


def test_a_canary_for_all_callers_still_asks_stable_by_name(fleet):
    fleet.release("one")
    everyone = CONFIG.model_copy(update={"percent": 100})
    assert release(fleet.controller, fleet.versions["two"], everyone).decision == "promoted"


@pytest.mark.parametrize(
    ("field_name", "value", "said"),
    [
        ("broken", "HTTP 500: the model failed", "error share is 1"),
        ("slow_ms", 2000.0, "p99 ms is 2000"),
        ("skewed", 0.001, "answers as proven is 0.001"),
        ("refuses", "golden.arrow: answers differently here", "golden.arrow: answers differently"),
    ],
)
def test_a_candidate_that_fails_on_hosts_is_dropped_and_rejected_with_the_reason(
    fleet, field_name, value, said
):
    fleet.release("one")
    getattr(fleet.hosts, field_name)[fleet.versions["two"]] = value
    done = fleet.release("two")
    assert (done.decision, done.ok) == ("rejected", False)
    assert said in done.reason
    assert fleet.channel.stable == fleet.versions["one"]
    assert fleet.channel.candidate is None
    assert fleet.channel.rejected == [fleet.versions["two"]]
    assert fleet.decisions[-1] == ("rejected", "two")
    assert said in fleet.channel.reason


@pytest.mark.parametrize(
    ("slow_windows", "decision"), [(1, "promoted"), (2, "promoted"), (3, "rejected")]
)
def test_a_busy_moment_is_looked_at_again_before_a_version_is_rejected_for_it(
    fleet, slow_windows, decision
):
    fleet.release("one")
    begun, window = len(fleet.hosts.asked), 4 * CONFIG.requests  # two hosts, two sides
    slow = fleet.hosts.slow_ms

    def busy(number):
        is_slow = number - begun < slow_windows * window
        slow[fleet.versions["two"]] = 2000.0 if is_slow else 1.0

    fleet.hosts.before_answer = busy
    done = fleet.release("two")
    assert done.decision == decision
    assert len(fleet.hosts.asked) - begun == min(slow_windows + 1, 3) * window


def test_a_candidate_that_is_slow_and_wrong_is_rejected_without_a_second_look(fleet):
    fleet.release("one")
    begun = len(fleet.hosts.asked)
    fleet.hosts.slow_ms[fleet.versions["worse"]] = 2000.0
    assert fleet.release("worse").decision == "rejected"
    assert len(fleet.hosts.asked) - begun == 4 * CONFIG.requests


def test_a_candidate_of_worse_quality_is_rejected(fleet):
    fleet.release("one")
    done = fleet.release("worse")
    assert done.decision == "rejected"
    assert "log loss is" in done.reason


def test_a_rejected_version_does_not_come_back_with_the_next_run(fleet):
    fleet.release("one")
    fleet.release("worse")
    serial = fleet.channel.serial
    done = fleet.release("worse")
    assert (done.decision, done.ok) == ("refused", False)
    assert "log loss is" in done.reason
    assert fleet.channel.serial == serial


def test_a_first_version_that_hosts_refuse_is_taken_back_with_their_reason(fleet):
    fleet.hosts.refuses[fleet.versions["one"]] = "requires CUDAExecutionProvider"
    done = fleet.release("one")
    assert (done.decision, done.ok) == ("rejected", False)
    assert "host a: requires CUDAExecutionProvider" in done.reason
    assert (fleet.channel.stable, fleet.channel.rejected) == (None, [fleet.versions["one"]])
    assert fleet.release("two").decision == "first release"


def test_a_host_that_was_still_loading_is_no_reason_why_another_refused(fleet):
    fleet.hosts.refuses[fleet.versions["one"]] = "requires CUDAExecutionProvider"
    fleet.hosts.deaf = {"b"}
    assert fleet.release("one").reason == "host a: requires CUDAExecutionProvider"


def test_a_first_version_whose_answers_are_not_those_proven_is_taken_back(fleet):
    fleet.hosts.skewed[fleet.versions["one"]] = 0.01
    assert fleet.release("one").decision == "rejected"
    assert fleet.channel.stable is None


@pytest.mark.parametrize("trouble", ["down", "deaf"])
def test_a_host_that_is_down_stops_a_release_before_any_caller_meets_the_candidate(fleet, trouble):
    fleet.release("one")
    setattr(fleet.hosts, trouble, {"b"})
    with pytest.raises(SlipwayError, match="host b") as caught:
        fleet.release("two")
    assert "slipway status" in str(caught.value)
    assert (fleet.channel.serial, fleet.channel.rejected) == (1, [])


def test_a_host_that_goes_down_in_the_canary_takes_the_candidate_back_but_rejects_nothing(fleet):
    fleet.release("one")
    begun = len(fleet.hosts.asked)

    def stop_b(number):
        if number - begun == 60:
            fleet.hosts.down = {"b"}

    fleet.hosts.before_answer = stop_b
    with pytest.raises(SlipwayError, match="host b does not answer"):
        fleet.release("two")
    assert fleet.channel.candidate is None
    assert (fleet.channel.stable, fleet.channel.rejected) == (fleet.versions["one"], [])
    fleet.hosts.down, fleet.hosts.before_answer = set(), lambda number: None
    assert fleet.release("two").decision == "promoted"


def test_a_host_that_was_frozen_for_a_moment_costs_no_version_its_release(fleet):
    fleet.release("one")
    fleet.hosts.busy = {len(fleet.hosts.asked) + n for n in (60, 63)}  # both the candidate's
    assert fleet.release("two").decision == "promoted"
    assert any("were not served by their hosts" in line for line in fleet.said)


def test_hosts_that_serve_ever_less_than_all_requests_leave_a_version_undecided(fleet):
    fleet.release("one")
    begun, window = len(fleet.hosts.asked), 4 * CONFIG.requests
    fleet.hosts.busy = {begun + n * window for n in range(3)}
    done = fleet.release("two")
    assert (done.decision, done.ok) == ("undecided", False)
    assert "1 requests were not served by their hosts: ReadTimeout" in done.reason
    assert (fleet.channel.candidate, fleet.channel.rejected) == (None, [])
    assert fleet.release("two").decision == "promoted"


def test_a_first_version_is_not_rejected_for_requests_that_its_hosts_did_not_serve(fleet):
    fleet.hosts.busy = {3}
    with pytest.raises(SlipwayError, match="was not released: error share cannot be compared"):
        fleet.release("one")
    assert (fleet.channel.stable, fleet.channel.rejected) == (None, [])
    assert fleet.release("one").decision == "first release"


@pytest.mark.parametrize("name", ["one", "two"])
def test_what_a_host_could_not_try_is_the_hosts_fault_and_comes_again(fleet, name):
    if name == "two":
        fleet.release("one")
    version = fleet.versions[name]
    fleet.hosts.refuses[version] = "cannot be written: No space left on device"
    fleet.hosts.untried = {version}
    with pytest.raises(SlipwayError, match=r"host a: could not try it .*No space left"):
        fleet.release(name)
    assert (fleet.channel.candidate, fleet.channel.rejected) == (None, [])
    fleet.hosts.refuses, fleet.hosts.untried = {}, set()
    assert fleet.release(name).ok


@pytest.mark.parametrize("name", ["one", "two"])
def test_ctrl_c_takes_back_what_is_not_decided_yet_and_the_next_run_releases_it(fleet, name):
    if name == "two":
        fleet.release("one")
    stable = fleet.channel.stable if fleet.channel else None

    def interrupt(number):
        raise KeyboardInterrupt

    fleet.hosts.before_answer = interrupt
    with pytest.raises(KeyboardInterrupt):
        fleet.release(name)
    assert (fleet.channel.stable, fleet.channel.candidate) == (stable, None)
    assert "broken off: KeyboardInterrupt" in fleet.channel.reason
    fleet.hosts.before_answer = lambda number: None
    assert fleet.release(name).ok


def test_a_release_killed_in_its_canary_is_started_anew_by_the_next_run(fleet):
    fleet.release("one")
    fleet.leave_candidate("two")
    assert fleet.release("two").decision == "promoted"
    assert fleet.channel.serial == 4
    assert fleet.time.now_s >= CONFIG.lease_s / 3  # it watched for a beat first


def test_a_candidate_left_by_a_killed_release_of_another_version_is_dropped_not_rejected(fleet):
    fleet.release("one")
    fleet.leave_candidate("two")
    assert fleet.release("three").decision == "promoted"
    assert fleet.channel.rejected == []
    assert fleet.release("two").decision == "promoted"


def test_a_release_killed_between_channel_and_ledger_is_noted_down_by_the_next(fleet):
    fleet.release("one")
    controller = fleet.controller
    controller.write(fleet.channel, stable=fleet.versions["two"], reason="promoted, then killed")
    assert fleet.release("two").decision == "already serves"
    assert fleet.decisions == [
        ("first release", "one"),
        ("promoted", "two"),
        ("already serves", "two"),
    ]


def test_a_first_release_killed_before_its_checks_is_checked_by_the_next(fleet):
    fleet.controller.write(None, stable=fleet.versions["one"], reason="first release")
    done = fleet.release("one")
    assert (done.decision, done.serial) == ("first release", 1)
    assert fleet.decisions == [("first release", "one")]


def test_two_releases_at_once_do_not_take_turns_at_undoing_each_other(fleet):
    fleet.release("one")
    fleet.leave_candidate("two")
    beats = iter(range(2, 100))

    def sleep(seconds):  # meanwhile the other release goes on beating
        fleet.time.now_s += seconds
        fleet.controller._beat(fleet.channel.serial, next(beats))

    controller = replace(fleet.controller, clock=replace(fleet.controller.clock, sleep=sleep))
    with pytest.raises(SlipwayError, match="another release of flights on local is running"):
        release(controller, fleet.versions["three"], CONFIG)
    assert fleet.channel.candidate.version == fleet.versions["two"]


def test_a_rollback_during_the_canary_wins_and_the_release_stops(fleet):
    fleet.release("one")
    begun = len(fleet.hosts.asked)

    def roll_back_once(number):
        if number - begun == 30:
            rollback(fleet.controller)

    fleet.hosts.before_answer = roll_back_once
    with pytest.raises(SlipwayError):
        fleet.release("two")
    assert (fleet.channel.serial, fleet.channel.stable) == (3, fleet.versions["one"])
    assert fleet.channel.rejected == [fleet.versions["two"]]
    assert any("could not take the candidate back" in line for line in fleet.said)


def test_a_lost_race_for_a_serial_is_told_and_changes_nothing(fleet):
    fleet.release("one")
    stale = fleet.channel
    fleet.controller.write(stale, stable=fleet.versions["one"], reason="somebody else")
    with pytest.raises(SlipwayError, match="somebody else wrote channel serial 2"):
        fleet.controller.write(stale, stable=fleet.versions["two"], reason="too late")
    assert fleet.channel.stable == fleet.versions["one"]


def test_a_dry_run_tells_the_steps_and_writes_nothing(fleet):
    fleet.release("one")
    before = sorted(p for p in fleet.site.root.rglob("*") if p.is_file())
    done = fleet.release("two", dry_run=True)
    assert (done.decision, done.serial) == ("planned", None)
    assert "answers 30 % of callers beside stable" in done.reason
    assert sorted(p for p in fleet.site.root.rglob("*") if p.is_file()) == before


def test_a_dry_run_of_a_rejected_version_says_no(fleet):
    fleet.release("one")
    fleet.release("worse")
    done = fleet.release("worse", dry_run=True)
    assert (done.decision, done.ok) == ("refused", False)


def test_a_damaged_bundle_is_refused_before_any_host_is_asked_to_load_it(fleet):
    fleet.release("one")
    model = (
        fleet.site.root / ".slipway/store/bundles" / MODEL / fleet.versions["two"] / "model.onnx"
    )
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleRefused, match=r"model\.onnx"):
        fleet.release("two")
    assert fleet.channel.serial == 1


def test_a_stable_version_pruned_from_the_store_does_not_stop_its_successor(fleet):
    fleet.release("one")
    shutil.rmtree(fleet.site.root / ".slipway/store/bundles" / MODEL / fleet.versions["one"])
    assert fleet.release("two").decision == "promoted"


def test_each_side_is_asked_its_own_golden_rows_where_the_inputs_differ(fleet, monkeypatch):
    fleet.release("one")
    fetch = takeover._fetch

    def with_other_inputs(controller, version):
        bundle = fetch(controller, version)
        if version != fleet.versions["one"]:
            return bundle
        carrier, delay = bundle.contract.inputs  # stable as if it took 64-bit numbers
        wider = delay.model_copy(update={"datatype": "FP64"})
        contract = bundle.contract.model_copy(update={"inputs": [carrier, wider]})
        return replace(bundle, contract=contract)

    monkeypatch.setattr(takeover, "_fetch", with_other_inputs)
    bodies = []
    monkeypatch.setattr(
        fleet.hosts, "seen_body", lambda version, body: bodies.append((version, b"FP64" in body))
    )
    assert fleet.release("two").decision == "promoted"
    assert set(bodies) == {(fleet.versions["one"], True), (fleet.versions["two"], False)}
    assert any("takes other inputs than stable" in line for line in fleet.said)


def test_a_version_that_was_never_published_is_named(fleet):
    with pytest.raises(BundleRefused, match="no version 000000000000 of flights"):
        release(fleet.controller, "0" * 64, CONFIG)
    assert fleet.channel is None


def test_beats_grow_over_releases_so_that_an_old_one_cannot_be_played_back(fleet):
    fleet.release("one")
    seen = []
    for name in ("two", "three"):
        fleet.release(name)
        seen.append(read_beat(fleet.site.store, "local", MODEL, fleet.controller.trusted).beat)
    assert seen == [1, 2]


def test_numbers_of_both_sides_stand_in_the_ledger(fleet):
    fleet.release("one")
    done = fleet.release("worse")
    entry = fleet.controller.ledger()[-1]
    assert entry["numbers"] == done.numbers
    assert entry["numbers"]["stable"]["version"] == fleet.versions["one"]
    assert entry["numbers"]["candidate"]["log_loss"] > entry["numbers"]["stable"]["log_loss"]
    assert (entry["run"], entry["serial"]) == ("run-1", 3)


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:50], lambda data: data.replace(b"0", b"1")]
)
def test_a_damaged_ledger_is_told_and_neither_stops_a_release_nor_forgives_a_version(fleet, damage):
    fleet.release("one")
    fleet.release("worse")
    folder = fleet.site.root / ".slipway/store/ledger/local" / MODEL
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        (folder / name).write_bytes(damage((folder / name).read_bytes()))
    assert fleet.release("worse").decision == "refused"
    told = [line for line in fleet.said if "the ledger is damaged" in line]
    assert [name for name in names if any(name in line for line in told)] == names
    assert "slipway verify --all" in told[0]
    done = fleet.release("two")
    assert (done.decision, done.previous) == ("promoted", fleet.versions["one"])
    assert fleet.decisions == [("canary started", "two"), ("promoted", "two")]


DAMAGES = [b"", b"{", b"\xff" * 500, None]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_release_goes_on_from_a_hosts_copy_of_a_damaged_channel(fleet, damage):
    fleet.release("one")
    fleet.release("worse")
    assert fleet.channel.serial == 3
    fleet.keep_copy()
    path = fleet.damage_channel(3, damage)
    for ledger in (fleet.site.root / f".slipway/store/ledger/local/{MODEL}").iterdir():
        ledger.write_bytes(b"")  # nobody needs it
    assert fleet.release("worse").decision == "refused"
    done = fleet.release("two")
    assert (done.decision, done.previous) == ("promoted", fleet.versions["one"])
    assert fleet.channel.rejected == [fleet.versions["worse"]]
    assert fleet.channel.serial == 6  # 4 is what 3 said, 5 the canary
    assert any(f"{path.name}" in line and "has it as it was" in line for line in fleet.said)


def test_a_release_goes_on_from_an_older_serial_where_no_host_has_seen_the_damaged_one(fleet):
    fleet.release("one")
    fleet.release("worse")
    path = fleet.damage_channel(3)
    fleet.hosts.deaf = {"a", "b"}
    assert fleet.release("worse").decision == "refused"  # says the ledger
    fleet.hosts.deaf = set()
    assert fleet.release("two").decision == "promoted"
    assert fleet.channel.rejected == [fleet.versions["worse"]]
    assert fleet.channel.serial == 6
    assert any(path.name in line and "the ledger" in line for line in fleet.said)


def test_a_rollback_goes_on_over_damaged_channels(fleet):
    for name in ("one", "two", "three"):
        fleet.release(name)
    fleet.keep_copy()
    newest, older = fleet.damage_channel(5), fleet.damage_channel(4)
    done = rollback(fleet.controller)
    assert (done.rejected, done.stable) == (fleet.versions["three"], fleet.versions["two"])
    assert (fleet.channel.serial, fleet.channel.rejected) == (6, [fleet.versions["three"]])
    assert any(newest.name in line for line in fleet.said)
    assert any(older.name in line and "passed over" in line for line in fleet.said)


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("hosts have it", "hosts serve by it"),
        ("ledger", "the ledger is damaged, too"),
        ("all", "no older serial is intact"),
    ],
)
def test_nothing_goes_on_where_what_was_rejected_cannot_be_told(fleet, trouble, why):
    fleet.release("one")
    fleet.release("worse")
    path = fleet.damage_channel(3)
    if trouble != "hosts have it":
        fleet.hosts.deaf = {"a", "b"}
    if trouble == "ledger":
        next((fleet.site.root / f".slipway/store/ledger/local/{MODEL}").iterdir()).write_bytes(b"")
    if trouble == "all":
        fleet.damage_channel(1)
        fleet.damage_channel(2)
    else:
        fleet.hosts._applied[MODEL] = fleet.hosts._applied[MODEL].model_copy(update={"serial": 3})
    for go in (rollback, lambda c: release(c, fleet.versions["two"], CONFIG)):
        with pytest.raises(ChannelRefused, match=path.name) as caught:
            go(fleet.controller)
        assert why in str(caught.value)
        assert "slipway verify --all --heal" in str(caught.value)


def test_a_damaged_channel_is_something_to_do(fleet):
    fleet.release("one")
    assert serves(fleet.controller, fleet.versions["one"])
    fleet.keep_copy()
    fleet.damage_channel(1)
    assert not serves(fleet.controller, fleet.versions["one"])
    assert fleet.release("one").decision == "already serves"
    assert serves(fleet.controller, fleet.versions["one"])


def test_a_rollback_brings_the_version_before_back_and_rejects_this_one(fleet):
    fleet.release("one")
    fleet.release("two")
    done = rollback(fleet.controller, why="complaints")
    assert (done.rejected, done.stable, done.ok) == (
        fleet.versions["two"],
        fleet.versions["one"],
        True,
    )
    assert done.hosts == {"a": "serves it", "b": "serves it"}
    assert done.reason.endswith("serves again: complaints")
    assert fleet.channel.rejected == [fleet.versions["two"]]
    assert fleet.decisions[-1] == ("rolled back", "two")
    assert "complaints" in fleet.release("two").reason
    assert fleet.release("three").decision == "promoted"


def test_a_second_rollback_goes_further_back(fleet):
    for name in ("one", "two", "three"):
        fleet.release(name)
    assert rollback(fleet.controller).stable == fleet.versions["two"]
    assert rollback(fleet.controller).stable == fleet.versions["one"]
    with pytest.raises(SlipwayError, match="no version before it"):
        rollback(fleet.controller)


def test_a_rollback_is_written_at_once_even_with_hosts_down(fleet):
    fleet.release("one")
    fleet.release("two")
    fleet.hosts.down = {"b"}
    done = rollback(fleet.controller)
    assert done.ok
    assert done.hosts == {"a": "serves it", "b": "down; takes it up when it starts"}
    fleet.hosts.down = {"a", "b"}
    assert fleet.channel.stable == fleet.versions["one"]


def test_a_rollback_that_a_host_does_not_follow_is_no_success(fleet):
    fleet.release("one")
    fleet.release("two")
    fleet.hosts.refuses[fleet.versions["one"]] = "model.onnx: cannot be read"
    done = rollback(fleet.controller)
    assert (done.ok, done.hosts["a"]) == (False, "model.onnx: cannot be read")


def test_a_rollback_while_a_candidate_answers_takes_the_candidate_back(fleet):
    fleet.release("one")
    fleet.leave_candidate("two")
    done = rollback(fleet.controller)
    assert (done.rejected, done.stable) == (fleet.versions["two"], fleet.versions["one"])
    assert fleet.decisions[-1] == ("rejected", "two")


@pytest.mark.parametrize("mute", ["refuses this caller", "is down"])
def test_a_host_that_cannot_be_asked_counts_as_one_where_the_candidate_answers(
    fleet, monkeypatch, mute
):
    fleet.release("one")
    fleet.release("two")
    fleet.leave_candidate("three")
    refusal = HostStatus(name="a", fleet="", ready=False, problem="asks for a key")
    status = None if mute == "is down" else refusal
    monkeypatch.setattr(fleet.hosts, "status", lambda host: status)
    done = rollback(fleet.controller)
    assert (done.rejected, done.stable) == (fleet.versions["three"], fleet.versions["two"])
    assert any(said.startswith("host a, b does not tell") for said in fleet.said)
    does = "asks for a key" if status else "down; takes it up when it starts"
    assert (done.ok, done.hosts) == (True, dict.fromkeys("ab", does))  # nobody is waited for
    assert rollback(fleet.controller).rejected == fleet.versions["two"]  # as that line says


def test_a_candidate_that_no_host_runs_any_more_does_not_count(fleet):
    fleet.release("one")
    fleet.release("two")
    fleet.leave_candidate("three")
    fleet.hosts.refuses[fleet.versions["three"]] = "its lease has ended"
    assert rollback(fleet.controller).rejected == fleet.versions["two"]


def test_a_dry_run_of_a_rollback_writes_nothing(fleet):
    fleet.release("one")
    fleet.release("two")
    done = rollback(fleet.controller, dry_run=True)
    assert (done.stable, done.serial, done.hosts) == (fleet.versions["one"], None, {})
    assert fleet.channel.serial == 3


def test_nothing_can_be_taken_back_where_nothing_was_released(fleet):
    with pytest.raises(SlipwayError, match="cannot roll back flights on local: nothing serves"):
        rollback(fleet.controller)


def test_a_version_serves_where_a_release_would_find_nothing_to_do(fleet):
    assert not serves(fleet.controller, fleet.versions["one"])
    fleet.release("one")
    decided = fleet.decisions
    assert serves(fleet.controller, fleet.versions["one"])
    assert not serves(fleet.controller, fleet.versions["two"])
    assert fleet.decisions == decided


@pytest.mark.parametrize("wrong", ["down", "deaf"])
def test_a_version_does_not_serve_while_one_host_lacks_it(fleet, wrong):
    fleet.release("one")
    setattr(fleet.hosts, wrong, {"b"})
    assert not serves(fleet.controller, fleet.versions["one"])


def test_a_version_beside_which_a_candidate_was_left_has_something_to_do(fleet):
    fleet.release("one")
    fleet.leave_candidate("two")
    assert not serves(fleet.controller, fleet.versions["one"])


def test_the_fake_hosts_do_what_every_host_client_must(fleet):
    fleet.release("one")
    host = fleet.site.fleet.hosts[0]
    check_serving(fleet.hosts, host, MODEL, fleet.versions["one"])
    check_refusals(fleet.hosts, host, MODEL)
    fleet.hosts.down = {host.name}
    check_down(fleet.hosts, host, MODEL)
