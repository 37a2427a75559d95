"""A promotion starts hosts through the launcher that it is given."""

import pytest

from flows.promotion import bring
from slipway.errors import SlipwayError
from tests.fleet_site import MODEL, make_site


class NoMachine:
    """A launcher that starts nothing and says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def up(self, fleet, client, say, wait_s=0.0):
        self.asked += [host.name for host in fleet.hosts]
        raise SlipwayError("no machine for host a")

    def down(self, fleet, say, grace_s=0.0):
        raise AssertionError("not to be asked here")


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path)


def test_a_fleet_that_does_not_come_up_ends_a_release_before_it_begins(site):
    launcher, version = NoMachine(), site.publish()
    with pytest.raises(SlipwayError, match="no machine for host a"):
        bring(site.root, MODEL, "local", version, launcher=launcher)
    assert launcher.asked == ["a", "b"]
    assert site.store.names(f"channels/{site.fleet.name}") == []


def test_a_dry_run_starts_no_host(site):
    launcher, version = NoMachine(), site.publish()
    done = bring(site.root, MODEL, "local", version, launcher=launcher, dry_run=True)
    assert done.version == version
    assert launcher.asked == []
