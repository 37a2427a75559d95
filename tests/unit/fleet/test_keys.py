import pytest

from slipway.errors import SlipwayError
from slipway.fleet.keys import ensure_local_keys, find_keys
from tests.fleet_site import make_site


def test_local_keys_are_private_made_once_and_trusted_by_the_fleet(tmp_path):
    site = make_site(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / ".slipway/keys").iterdir()}
    keys = ensure_local_keys(tmp_path, site.fleet)
    assert {path: path.read_bytes() for path in (tmp_path / ".slipway/keys").iterdir()} == before
    assert [oct(path.stat().st_mode & 0o777) for path in (keys.builder, keys.release)] == [
        "0o600",
        "0o600",
    ]
    assert find_keys(tmp_path) == keys
    for role in ("builder", "release"):
        (trusted,) = (site.fleet.trusted_keys / role).iterdir()
        assert trusted.read_bytes() == (tmp_path / f".slipway/keys/{role}.pub").read_bytes()


def test_keys_that_were_never_made_are_missed_with_what_makes_them(tmp_path):
    with pytest.raises(SlipwayError, match="no builder and no release key") as caught:
        find_keys(tmp_path)
    assert "slipway run PIPELINE" in str(caught.value)
