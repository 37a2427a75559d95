"""A disk that is really full: a small tmpfs under the store."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.bundle.verify import verify_bundle
from slipway.errors import SlipwayError
from slipway.store.bundles import bundle_exists, download_bundle, upload_bundle
from slipway.store.objects import Store
from tests.bundles import make_bundle, make_keys

DISK_BYTES = 256 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={DISK_BYTES}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "slipway-test", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_publishes_nothing_and_once_there_is_room_the_retry_does(disk, tmp_path):
    keys = make_keys(tmp_path / "keys")
    version = make_bundle(tmp_path / "bundle", keys=keys)
    store = Store(str(disk / "store"))
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES - 16 * 1024))

    with pytest.raises(SlipwayError, match="no space left while writing bundles/flights/"):
        upload_bundle(store, tmp_path / "bundle", "flights")
    assert not bundle_exists(store, "flights", version)
    assert list(disk.rglob("*.part")) == []

    ballast.unlink()
    assert upload_bundle(store, tmp_path / "bundle", "flights") is True
    fetched = download_bundle(store, "flights", version, tmp_path / "fetched")
    assert verify_bundle(fetched, keys.trusted).manifest.version == version


def test_a_host_whose_cache_disk_is_full_says_so_and_keeps_nothing_half(disk, tmp_path):
    version = make_bundle(tmp_path / "bundle", keys=make_keys(tmp_path / "keys"))
    store = Store(str(tmp_path / "store"))
    upload_bundle(store, tmp_path / "bundle", "flights")
    (disk / "ballast").write_bytes(bytes(DISK_BYTES - 16 * 1024))
    with pytest.raises(SlipwayError, match="cannot be written: No space left on device"):
        download_bundle(store, "flights", version, disk / "cache" / version)
    assert list((disk / "cache").iterdir()) == []
