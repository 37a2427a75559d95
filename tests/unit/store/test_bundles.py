import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from slipway.bundle.manifest import parse_manifest
from slipway.bundle.verify import verify_bundle
from slipway.errors import BundleRefused, SlipwayError
from slipway.store.bundles import bundle_exists, download_bundle, upload_bundle
from slipway.store.objects import Store
from slipway.store.places import LocalPlace, Place, open_place
from tests.bundles import Keys, make_bundle, make_keys

FILES = 10


class FailingPlace(LocalPlace):
    """A real folder whose n-th write fails, as on a full disk or when the program is killed."""

    def __init__(self, place: Place, writes: int, error: BaseException) -> None:
        super().__init__(place.fs, place.root)
        self.writes = writes
        self.error = error

    def create(self, where: str, data: bytes) -> None:
        self._count()
        super().create(where, data)

    def replace(self, where: str, data: bytes) -> None:
        self._count()
        super().replace(where, data)

    def _count(self) -> None:
        if self.writes == 0:
            raise self.error
        self.writes -= 1


class FailingStore(Store):
    """A store in such a folder."""

    def __init__(self, url: str, writes: int, error: BaseException) -> None:
        super().__init__(url)
        self._open = FailingPlace(open_place(url), writes, error)


class RacingStore(Store):
    """A real store in which another program acts right before a file is created (or replaced)."""

    def __init__(self, url: str, name: str, act, exclusive: bool = True) -> None:
        super().__init__(url)
        self.name = name
        self.act = act
        self.exclusive = exclusive
        self.replaced: list[str] = []

    def create(self, path: str, data: bytes) -> None:
        self._race(path, exclusive=True)
        super().create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        self.replaced.append(path.rpartition("/")[2])
        self._race(path, exclusive=False)
        super().replace(path, data)

    def _race(self, path: str, exclusive: bool) -> None:
        if (path.rpartition("/")[2], exclusive) == (self.name, self.exclusive) and self.act:
            act, self.act = self.act, None
            act()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Keys, str]:
    """The same version twice, each with its own evidence."""
    folder = tmp_path_factory.mktemp("made")
    keys = make_keys(folder / "keys")
    version = make_bundle(folder / "one", keys=keys, commit="1" * 40)
    assert make_bundle(folder / "two", keys=keys, commit="2" * 40) == version
    return folder, keys, version


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def stored(store: Store, version: str) -> Path:
    return Path(store.url) / "bundles" / "flights" / version


def commit_in(store: Store, version: str, keys: Keys) -> str:
    """Return the commit of the stored bundle after checking it as a host would."""
    folder = Path(store.url).parent / "fetched"
    download_bundle(store, "flights", version, folder)
    verify_bundle(folder, keys.trusted)
    return json.loads((folder / "lineage.json").read_bytes())["commit"][0]


def test_a_bundle_comes_back_as_it_was_uploaded(store, made, tmp_path):
    folder, keys, version = made
    assert not bundle_exists(store, "flights", version)
    assert upload_bundle(store, folder / "one", "flights") is True
    assert bundle_exists(store, "flights", version)
    fetched = download_bundle(store, "flights", version, tmp_path / "cache" / version)
    assert fetched == tmp_path / "cache" / version
    assert verify_bundle(fetched, keys.trusted).manifest.version == version
    assert [path.name for path in fetched.parent.iterdir()] == [version]


def test_a_bundle_goes_through_a_store_that_is_no_folder(made, tmp_path):
    folder, keys, version = made
    store = Store(f"memory://{tmp_path.name}")
    assert upload_bundle(store, folder / "one", "flights") is True
    assert upload_bundle(store, folder / "two", "flights") is False
    fetched = download_bundle(store, "flights", version, tmp_path / "fetched")
    assert verify_bundle(fetched, keys.trusted).manifest.version == version


def test_a_version_that_is_there_keeps_its_first_evidence(store, made):
    folder, keys, version = made
    upload_bundle(store, folder / "one", "flights")
    assert upload_bundle(store, folder / "two", "flights") is False
    assert commit_in(store, version, keys) == "1"


@pytest.mark.parametrize("writes", range(FILES))
def test_a_disk_full_at_any_file_publishes_nothing_and_a_retry_does(store, made, writes):
    folder, keys, version = made
    full = FailingStore(store.url, writes, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(SlipwayError, match=r"no space left .* nothing was published"):
        upload_bundle(full, folder / "one", "flights")
    assert not bundle_exists(store, "flights", version)
    with pytest.raises(BundleRefused, match="no version"):
        download_bundle(store, "flights", version, Path(store.url).parent / "x")
    assert upload_bundle(store, folder / "one", "flights") is True
    assert commit_in(store, version, keys) == "1"


@pytest.mark.parametrize("writes", range(FILES))
def test_an_upload_killed_at_any_file_is_finished_by_the_next_run(store, made, writes):
    folder, keys, version = made
    killed = FailingStore(store.url, writes, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        upload_bundle(killed, folder / "one", "flights")
    assert not bundle_exists(store, "flights", version)
    assert upload_bundle(store, folder / "two", "flights") is True
    assert commit_in(store, version, keys) == "2"


def test_the_manifest_is_written_last(store, made):
    written = []

    class Recording(Store):
        def create(self, path: str, data: bytes) -> None:
            written.append(path.rpartition("/")[2])
            super().create(path, data)

    upload_bundle(Recording(store.url), made[0] / "one", "flights")
    assert (len(written), written[-1]) == (FILES, "manifest.json")


@pytest.mark.parametrize("name", ["card.md", "model.onnx", "lineage.json", "manifest.json"])
def test_of_two_uploads_at_once_one_wins_whole(store, made, name):
    folder, keys, version = made
    racing = RacingStore(store.url, name, lambda: upload_bundle(store, folder / "two", "flights"))
    assert upload_bundle(racing, folder / "one", "flights") is False
    assert racing.replaced == []
    assert commit_in(store, version, keys) == "2"


@pytest.mark.parametrize("name", ["lineage.json", "bundle.sig"])
def test_an_upload_that_another_completes_in_that_moment_gives_way(store, made, name):
    folder, keys, version = made
    killed = FailingStore(store.url, FILES - 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        upload_bundle(killed, folder / "two", "flights")
    racing = RacingStore(
        store.url, name, lambda: upload_bundle(store, folder / "two", "flights"), exclusive=False
    )
    upload_bundle(racing, folder / "one", "flights")
    assert racing.act is None
    assert commit_in(store, version, keys) in {"1", "2"}


def test_evidence_mixed_by_another_upload_is_put_right_by_the_winner(store, made):
    folder, keys, version = made
    place = stored(store, version)

    def mix() -> None:
        for name in ("lineage.json", "bundle.sig"):
            shutil.copy(folder / "two" / name, place / name)

    racing = RacingStore(store.url, "manifest.json", mix)
    assert upload_bundle(racing, folder / "one", "flights") is True
    assert commit_in(store, version, keys) == "1"


@pytest.mark.parametrize("name", ["model.onnx", "lineage.json", "bundle.sig"])
def test_a_decayed_file_is_put_right_by_publishing_the_same_bundle_again(store, made, name):
    folder, keys, version = made
    upload_bundle(store, folder / "one", "flights")
    path = stored(store, version) / name
    path.write_bytes(b"decayed")
    assert upload_bundle(store, folder / "one", "flights") is False
    assert commit_in(store, version, keys) == "1"
    path.unlink()
    assert upload_bundle(store, folder / "one", "flights") is False
    assert commit_in(store, version, keys) == "1"


def test_a_decayed_file_that_no_one_has_is_said(store, made):
    folder, _, version = made
    upload_bundle(store, folder / "one", "flights")
    (stored(store, version) / "lineage.json").write_bytes(b"decayed")
    with pytest.raises(BundleRefused, match=r"damaged: lineage\.json; remove bundles/flights/"):
        upload_bundle(store, folder / "two", "flights")


def test_a_bundle_that_is_not_what_it_lists_is_not_uploaded(store, made, tmp_path):
    folder, _, version = made
    shutil.copytree(folder / "one", tmp_path / "bundle")
    (tmp_path / "bundle" / "card.md").write_text("changed")
    with pytest.raises(BundleRefused, match=r"card\.md: is not what manifest\.json lists"):
        upload_bundle(store, tmp_path / "bundle", "flights")
    assert not bundle_exists(store, "flights", version)


def test_a_bundle_of_another_model_is_not_uploaded(store, made):
    with pytest.raises(BundleRefused, match="is a bundle of flights, not of ships"):
        upload_bundle(store, made[0] / "one", "ships")


@pytest.mark.parametrize("name", ["model.onnx", "golden.arrow", "lineage.json", "manifest.json"])
def test_a_damaged_file_is_refused_on_the_way_and_leaves_nothing(store, made, tmp_path, name):
    folder, _, version = made
    upload_bundle(store, folder / "one", "flights")
    path = stored(store, version) / name
    data = path.read_bytes()
    for wrong in (data[:-3], data + b"more", b"x" + data[1:]):
        path.write_bytes(wrong)
        with pytest.raises((BundleRefused, SlipwayError)):
            download_bundle(store, "flights", version, tmp_path / "cache" / "b")
        assert list((tmp_path / "cache").glob("*")) == []


def test_a_missing_file_is_named(store, made, tmp_path):
    folder, _, version = made
    upload_bundle(store, folder / "one", "flights")
    (stored(store, version) / "bundle.sig").unlink()
    with pytest.raises(BundleRefused, match=r"bundle\.sig is missing"):
        download_bundle(store, "flights", version, tmp_path / "b")


def test_a_bundle_under_another_version_is_refused(store, made, tmp_path):
    folder, _, version = made
    upload_bundle(store, folder / "one", "flights")
    os.rename(stored(store, version), stored(store, "0" * 64))
    with pytest.raises(BundleRefused, match=f"is of version {version}"):
        download_bundle(store, "flights", "0" * 64, tmp_path / "b")


def test_a_version_that_is_a_path_is_refused(store, tmp_path):
    with pytest.raises(BundleRefused, match="is no version"):
        download_bundle(store, "flights", "../../channels", tmp_path / "b")


def test_what_was_cached_before_is_replaced(store, made, tmp_path):
    folder, keys, version = made
    upload_bundle(store, folder / "one", "flights")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "left over").touch()
    verify_bundle(download_bundle(store, "flights", version, tmp_path / "b"), keys.trusted)


def test_a_host_that_cannot_write_its_cache_says_so(store, made, tmp_path):
    folder, _, version = made
    upload_bundle(store, folder / "one", "flights")
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(SlipwayError, match="cannot be written"):
        download_bundle(store, "flights", version, tmp_path / "cache" / "b")


def test_the_stored_manifest_is_the_bundles_own(store, made):
    folder, _, version = made
    upload_bundle(store, folder / "one", "flights")
    data = store.read(f"bundles/flights/{version}/manifest.json")
    assert data == (folder / "one" / "manifest.json").read_bytes()
    assert parse_manifest(data).version == version
