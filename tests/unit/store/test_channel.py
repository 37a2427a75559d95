import json
from pathlib import Path

import pytest

from slipway.bundle.format import canonical_json
from slipway.bundle.signing import sign_document
from slipway.errors import AlreadyExists, ChannelRefused
from slipway.store.channel import (
    PAYLOAD_TYPE,
    Candidate,
    Channel,
    models,
    next_channel,
    open_channel,
    read_channel,
    write_channel,
)
from slipway.store.lease import PAYLOAD_TYPE as LEASE_TYPE
from slipway.store.objects import Store
from tests.bundles import Keys, make_keys

ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


@pytest.fixture
def keys(tmp_path) -> Keys:
    return make_keys(tmp_path / "keys")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def channel(current: Channel | None = None, **fields: object) -> Channel:
    wanted = {
        "fleet": "local",
        "model": "flights",
        "stable": ONE,
        "candidate": None,
        "rejected": [],
        "reason": "first release",
        "issued_at": "2026-11-20T12:00:00Z",
    }
    return next_channel(current, **{**wanted, **fields})


def canary(version: str = TWO) -> Candidate:
    return Candidate(version=version, mode="canary", percent=25, lease_s=10)


def place(store: Store, serial: int, model: str = "flights", fleet: str = "local") -> Path:
    return Path(store.url) / "channels" / fleet / model / f"{serial:012d}.json"


def test_a_channel_reads_back_as_it_was_written(store, keys):
    written = write_channel(store, channel(candidate=canary(), rejected=[THREE]), keys.release)
    read = read_channel(store, "local", "flights", keys.trusted)
    assert read == written
    assert read.channel.candidate == canary()
    assert place(store, 1).read_bytes() == read.envelope


def test_there_is_no_channel_before_the_first(store, keys):
    assert read_channel(store, "local", "flights", keys.trusted) is None
    assert models(store, "local") == []


def test_serials_grow_by_one_and_the_highest_counts(store, keys):
    current = None
    for number in range(1, 12):
        current = channel(current, reason=f"change {number}")
        write_channel(store, current, keys.release)
    assert current.serial == 11
    assert read_channel(store, "local", "flights", keys.trusted).channel.reason == "change 11"


def test_of_two_writers_of_one_serial_one_loses(store, keys):
    write_channel(store, channel(reason="mine"), keys.release)
    with pytest.raises(AlreadyExists):
        write_channel(store, channel(reason="yours"), keys.release)
    assert read_channel(store, "local", "flights", keys.trusted).channel.reason == "mine"


def test_a_store_rolled_back_shows_a_lower_serial(store, keys):
    first = write_channel(store, channel(), keys.release).channel
    write_channel(store, channel(first), keys.release)
    place(store, 2).unlink()
    assert read_channel(store, "local", "flights", keys.trusted).channel.serial == 1


def test_another_file_under_the_same_serial_has_another_digest(store, keys):
    mine = write_channel(store, channel(reason="mine"), keys.release)
    place(store, 1).unlink()
    write_channel(store, channel(reason="yours"), keys.release)
    assert read_channel(store, "local", "flights", keys.trusted).digest != mine.digest


def test_models_of_a_fleet_are_listed(store, keys):
    for model in ("ships", "flights"):
        write_channel(store, channel(model=model), keys.release)
    write_channel(store, channel(fleet="berlin", model="trains"), keys.release)
    assert models(store, "local") == ["flights", "ships"]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((1, "flights", "local"), (2, "flights", "local")),
        ((1, "flights", "local"), (1, "ships", "local")),
        ((1, "flights", "local"), (1, "flights", "berlin")),
    ],
    ids=["replayed as a later serial", "moved to another model", "moved to another fleet"],
)
def test_a_channel_in_another_place_is_refused(store, keys, source, target):
    write_channel(store, channel(), keys.release)
    path = place(store, *target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(place(store, *source).read_bytes())
    with pytest.raises(ChannelRefused, match=r"holds serial 1|is that of flights on local"):
        read_channel(store, target[2], target[1], keys.trusted)


def test_a_channel_signed_by_a_builder_is_refused(store, keys):
    write_channel(store, channel(), keys.builder)
    with pytest.raises(ChannelRefused, match="signed by key"):
        read_channel(store, "local", "flights", keys.trusted)


def test_an_unsigned_channel_is_refused(store, keys):
    store.create("channels/local/flights/000000000001.json", canonical_json(channel().model_dump()))
    with pytest.raises(ChannelRefused):
        read_channel(store, "local", "flights", keys.trusted)


def test_a_forged_channel_on_top_is_refused_rather_than_passed_over(store, keys, tmp_path):
    stranger = make_keys(tmp_path / "stranger")
    first = write_channel(store, channel(), keys.release).channel
    write_channel(store, channel(first, stable=TWO), stranger.release)
    with pytest.raises(ChannelRefused, match="signed by key"):
        read_channel(store, "local", "flights", keys.trusted)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_channel_is_named(store, keys, damage):
    write_channel(store, channel(), keys.release)
    place(store, 1).write_bytes(damage)
    with pytest.raises(ChannelRefused, match=r"channels/local/flights/000000000001\.json: "):
        read_channel(store, "local", "flights", keys.trusted)


def test_a_lease_is_no_channel(keys):
    document = canonical_json(channel().model_dump())
    envelope = sign_document(document, LEASE_TYPE, keys.release)
    with pytest.raises(ChannelRefused, match=r"holds 'application/vnd\.slipway\.lease"):
        open_channel(envelope, keys.trusted, "local", "flights")


def test_a_file_with_another_name_is_passed_over(store, keys):
    write_channel(store, channel(), keys.release)
    for name in ("9.json", "0000000000999.json", "00000000000٣.json", "000000000009.json.bak"):
        (place(store, 1).parent / name).write_text("{}")
    assert read_channel(store, "local", "flights", keys.trusted).channel.serial == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"serial": 0}, "serial"),
        ({"serial": "1"}, "serial"),
        ({"stable": "latest"}, "stable"),
        ({"stable": ONE.upper() + "\n"}, "stable"),
        ({"stable": None, "rejected": ["x"]}, "rejected"),
        ({"candidate": {**canary().model_dump(), "percent": 101}}, "percent"),
        ({"candidate": {**canary().model_dump(), "mode": "blue"}}, "mode"),
        ({"candidate": {**canary().model_dump(), "lease_s": 0}}, "lease_s"),
        ({"candidate": canary(ONE).model_dump()}, "is the stable version already"),
        ({"candidate": canary(TWO).model_dump(), "rejected": [TWO]}, "was rejected"),
        ({"rejected": [ONE]}, "was rejected"),
        ({"more": 1}, "more"),
    ],
)
def test_a_signed_channel_that_says_anything_else_is_refused(keys, change, said):
    document = canonical_json({**channel().model_dump(), **change})
    envelope = sign_document(document, PAYLOAD_TYPE, keys.release)
    with pytest.raises(ChannelRefused, match=said):
        open_channel(envelope, keys.trusted, "local", "flights")


def test_a_signed_channel_with_a_key_given_twice_is_refused(keys):
    document = canonical_json(channel().model_dump())
    twice = document.replace(b"{", b'{"stable": null, ', 1)
    assert json.loads(twice)["stable"] == ONE
    envelope = sign_document(twice, PAYLOAD_TYPE, keys.release)
    with pytest.raises(ChannelRefused, match="'stable' is given twice"):
        open_channel(envelope, keys.trusted, "local", "flights")


def test_a_version_is_rejected_once_and_in_order():
    assert channel(rejected=[THREE, TWO, THREE]).rejected == [THREE, TWO]
