import pytest

from slipway.errors import BundleRefused, ConfigError
from slipway.fleet.trace import find_version, trace
from slipway.store.bundles import upload_bundle
from slipway.store.objects import Store
from tests.bundles import make_bundle, make_keys
from tests.fleet_site import make_site


@pytest.fixture
def published(tmp_path):
    site = make_site(tmp_path / "p")
    return site, site.publish()


def test_a_version_is_found_by_its_first_twelve_digits_or_more(published):
    site, version = published
    for text in (version[:12], version[:40], version, f"v{version[:12]}"):
        assert find_version(site.store, text) == ("flights", version)
    for text in (version[:11], "x" * 12, version.upper()[:12], version + "0", "", "../../etc"):
        with pytest.raises(ConfigError, match="is no version"):
            find_version(site.store, text)


def test_a_trace_vouches_for_what_it_shows(published):
    site, version = published
    found = trace(site.fleet, site.store, version[:12])
    assert (found.model, found.version, found.lineage["pipeline"]) == (
        "flights",
        version,
        "flights",
    )
    assert found.proof["verdict"] == "pass"
    assert found.ledger == []


def test_a_trace_of_a_bundle_that_nobody_trusted_signed_is_refused(published, tmp_path):
    site, _ = published
    forged = make_bundle(tmp_path / "forged", bias=0.5, keys=make_keys(tmp_path / "other"))
    upload_bundle(Store(site.fleet.store), tmp_path / "forged", "flights")
    with pytest.raises(BundleRefused, match=r"bundle\.sig: signed by key"):
        trace(site.fleet, site.store, forged)
