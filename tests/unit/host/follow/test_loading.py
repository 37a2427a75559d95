import dataclasses
import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from slipway.bundle.verify import Verified
from slipway.errors import BundleRefused, SlipwayError
from slipway.host.follow.loading import Loader
from slipway.provider import CPU
from slipway.store.bundles import upload_bundle
from slipway.store.objects import Store
from tests.bundles import make_bundle, make_keys


class Probe:
    """Stands for the child: notes whom it was shown, and refuses when told to."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.refusal: str | None = None

    def __call__(self, verified: Verified) -> None:
        self.seen.append(verified.manifest.version)
        if self.refusal:
            raise BundleRefused(self.refusal)


@dataclasses.dataclass
class Site:
    """A store with bundles, and a host's state."""

    root: Path

    def publish(self, bias: float) -> str:
        folder = self.root / f"bundle{bias}"
        version = make_bundle(folder, keys=make_keys(self.root / "keys"), bias=bias)
        upload_bundle(self.store, folder, "flights")
        return version

    def bundle(self, version: str) -> Path:
        return self.root / "store" / "bundles" / "flights" / version

    @property
    def store(self) -> Store:
        return Store(str(self.root / "store"))

    def loader(self, probe: Probe, **options: int) -> Loader:
        trusted = make_keys(self.root / "keys").trusted
        return Loader(self.store, trusted, self.root / "state", 2, try_first=probe, **options)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_version_is_opened_measured_and_counted(site):
    version, probe = site.publish(0.0), Probe()
    loader = site.loader(probe)
    opened = loader.load("flights", version)
    inputs = {"carrier": np.array(["AA"], object), "delay": np.array([0.0], np.float32)}
    assert opened.runner.run(inputs)["probability"] == pytest.approx([0.3775407])
    assert opened.measured.best_rows >= 4
    assert opened.batch_invariance_max == 1e-6
    assert len(loader.budgets[CPU].held) == 1
    opened.runner.close()
    assert loader.budgets[CPU].held == {}


def test_a_version_is_probed_once_and_again_when_it_was_forgotten(site):
    version, probe = site.publish(0.0), Probe()
    site.loader(probe).load("flights", version)
    site.loader(probe).load("flights", version)
    assert probe.seen == [version]
    loader = site.loader(probe)
    loader.forget("flights", version)
    loader.load("flights", version)
    assert probe.seen == [version] * 2


def test_a_version_that_the_probe_refuses_is_not_opened_and_holds_nothing(site):
    version, probe = site.publish(0.0), Probe()
    loader = site.loader(probe)
    probe.refusal = "crashed"
    with pytest.raises(BundleRefused, match="crashed"):
        loader.load("flights", version)
    assert loader.budgets[CPU].held == {}
    assert loader.cached("flights") == set()
    probe.refusal = None
    loader.load("flights", version)
    assert probe.seen == [version] * 2


def test_a_candidate_without_room_is_refused_and_the_stable_version_stays(site):
    stable, candidate, probe = site.publish(0.0), site.publish(0.5), Probe()
    loader = site.loader(probe, memory_bytes=50_000_000)
    opened = loader.load("flights", stable)
    budget = loader.budgets[CPU]
    budget.reserve("another model", 40_000_000)
    held = budget.held
    with pytest.raises(SlipwayError, match="--memory-mib"):
        loader.load("flights", candidate)
    assert budget.held == held
    assert probe.seen == [stable]  # not even probed
    inputs = {"carrier": np.array(["AA"], object), "delay": np.array([0.0], np.float32)}
    assert opened.runner.run(inputs)["probability"] == pytest.approx([0.3775407])
    budget.release("another model")
    loader.load("flights", candidate)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (lambda site, v: (site.root / "state/cache/flights").write_text(""), "cannot be written"),
        (lambda site, v: (site.bundle(v) / "model.onnx").write_bytes(b"?"), "is not what"),
        (lambda site, v: (site.bundle(v) / "manifest.json").unlink(), "no version"),
    ],
)
def test_a_version_that_cannot_be_fetched_is_not_refused_for_it(site, trouble, said):
    version = site.publish(0.0)
    loader = site.loader(Probe())
    trouble(site, version)
    with pytest.raises(SlipwayError, match=said) as caught:
        loader.load("flights", version)
    assert not isinstance(caught.value, BundleRefused)


def test_a_damaged_copy_in_the_cache_is_fetched_anew_and_said(site):
    version = site.publish(0.0)
    loader = site.loader(Probe())
    assert loader.load("flights", version).damage is None
    copy = site.root / "state/cache/flights" / version / "model.onnx"
    whole = copy.read_bytes()
    for damaged in (b"", whole[:-1] + b"?"):
        copy.write_bytes(damaged)
        assert str(loader.load("flights", version).damage).startswith("model.onnx: ")
        assert copy.read_bytes() == whole
    assert loader.load("flights", version).damage is None


def test_a_damaged_copy_is_named_where_the_store_cannot_replace_it(site):
    version = site.publish(0.0)
    loader = site.loader(Probe())
    loader.load("flights", version)
    copy = site.root / "state/cache/flights" / version
    (copy / "model.onnx").write_bytes(b"")
    (site.bundle(version) / "manifest.json").unlink()
    with pytest.raises(SlipwayError, match=f"no version.*; the copy in {copy} is refused: model"):
        loader.load("flights", version)


def test_a_disk_that_cannot_be_read_is_no_reason_to_refuse_a_version(site, monkeypatch):
    version = site.publish(0.0)
    loader = site.loader(Probe())
    opened = os.open

    def fail(path, *rest, **more):
        if str(path).endswith("model.onnx"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *rest, **more)

    loader.load("flights", version)
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(SlipwayError, match="Input/output error") as caught:
        loader.load("flights", version)
    assert not isinstance(caught.value, BundleRefused)


def test_closing_an_earlier_copy_does_not_count_out_a_later_one(site):
    version, probe = site.publish(0.0), Probe()
    loader = site.loader(probe)
    first, second = loader.load("flights", version), loader.load("flights", version)
    first.runner.close()
    assert len(loader.budgets[CPU].held) == 1
    second.runner.close()
    assert loader.budgets[CPU].held == {}


def test_versions_that_are_loaded_at_once_are_measured_one_after_the_other(site):
    versions, probe = [site.publish(bias) for bias in (0.0, 0.5, 1.0)], Probe()
    loader = site.loader(probe)
    opened = {}
    threads = [
        threading.Thread(target=lambda v=v: opened.setdefault(v, loader.load("flights", v)))
        for v in versions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(opened) == set(versions)
    assert len(loader.budgets[CPU].held) == 3


def test_the_real_probe_is_what_a_host_uses(site):
    version = site.publish(0.0)
    loader = Loader(site.store, make_keys(site.root / "keys").trusted, site.root / "state", 1)
    loader.load("flights", version)
    assert [path.stem for path in (site.root / "state" / "probed").iterdir()] == [version]
