import shutil
from pathlib import Path

import pytest

from slipway.bundle.signing import sign_document
from slipway.errors import ChannelRefused
from slipway.store.lease import PAYLOAD_TYPE, Beat, beat, read_beat
from slipway.store.objects import Store
from tests.bundles import Keys, make_keys


@pytest.fixture
def keys(tmp_path) -> Keys:
    return make_keys(tmp_path / "keys")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def test_there_is_no_beat_before_the_first(store, keys):
    assert read_beat(store, "local", "flights", keys.trusted) is None


def test_the_last_beat_counts(store, keys):
    for number in (1, 2):
        beat(store, "local", "flights", 7, number, keys.release)
    expected = Beat(fleet="local", model="flights", serial=7, beat=2)
    assert read_beat(store, "local", "flights", keys.trusted) == expected


def test_a_beat_by_a_key_of_another_role_is_refused(store, keys):
    beat(store, "local", "flights", 7, 1, keys.builder)
    with pytest.raises(ChannelRefused, match="signed by key"):
        read_beat(store, "local", "flights", keys.trusted)


@pytest.mark.parametrize("target", ["local/ships.json", "berlin/flights.json"])
def test_the_beat_of_another_channel_is_refused(store, keys, target):
    beat(store, "local", "flights", 7, 1, keys.release)
    leases = Path(store.url) / "leases"
    (leases / target).parent.mkdir(exist_ok=True)
    shutil.copy(leases / "local" / "flights.json", leases / target)
    fleet, model = target.removesuffix(".json").split("/")
    with pytest.raises(ChannelRefused, match="is the lease of flights on local"):
        read_beat(store, fleet, model, keys.trusted)


@pytest.mark.parametrize("document", [b"{}", b"7", b'{"fleet": "local", "beat": "1"}'])
def test_a_signed_beat_of_another_form_is_refused(store, keys, document):
    envelope = sign_document(document, PAYLOAD_TYPE, keys.release)
    store.replace("leases/local/flights.json", envelope)
    with pytest.raises(ChannelRefused, match=r"leases/local/flights\.json: "):
        read_beat(store, "local", "flights", keys.trusted)
