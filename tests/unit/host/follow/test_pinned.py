"""A host that serves the bundles of given folders."""

import asyncio
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from slipway.bundle.session import open_session
from slipway.bundle.verify import check_here, verify_bundle
from slipway.errors import BundleRefused
from slipway.host.answer.call import Loaded
from slipway.host.answer.core import Core
from slipway.host.follow.pinned import Pinned, PinnedParts
from slipway.host.observe.metrics import Metrics
from tests.bundles import CPU, Keys, make_bundle, make_keys
from tests.support.waiting import eventually
from tests.tensors import make_tensor_bundle


class Engine:
    """An engine that only knows whether it was closed."""

    full = False

    def __init__(self) -> None:
        self.closed = False

    def submit(self, job: Any) -> None:
        raise AssertionError("nobody asks here")

    def close(self) -> None:
        self.closed = True


class Site:
    """Folders with bundles, and what serves them."""

    def __init__(self, root: Path, keys: Keys) -> None:
        self.root = root
        self.keys = keys
        self.metrics = Metrics()
        self.core = Core(self.metrics)
        self.started: list[Loaded] = []
        self.checked: list[str] = []

    def put(self, folder: str, seed: int = 0, kind: str = "gather", name: str = "m") -> str:
        """Make a bundle elsewhere and put it into a folder, whatever lay there."""
        made = self.root / "made" / f"{kind}-{name}-{seed}"
        if not made.exists():
            make_tensor_bundle(made, kind, name, self.keys, seed)
        shutil.rmtree(self.root / folder, ignore_errors=True)
        shutil.copytree(made, self.root / folder)
        return str(verify_bundle(made, self.keys.trusted).manifest.version)

    def open(self, folder: Path, model: str, version: str) -> Any:
        """Check as a host does; gives the checked bundle in place of an open one."""
        self.checked.append(folder.name)
        verified = verify_bundle(folder, self.keys.trusted)
        if (verified.manifest.name, verified.manifest.version) != (model, version):
            raise BundleRefused("another one by now")
        check_here(verified, open_session(verified.model, CPU, 1))
        return verified

    def start(self, model: str, version: str, opened: Any) -> Loaded:
        loaded = Loaded(version, opened.contract, Engine(), self.metrics.series(model, version))
        self.started.append(loaded)
        return loaded

    @asynccontextmanager
    async def pinned(self, *folders: str, **parts: Any):
        """Run pinned bundles; they are read once when the block begins."""
        pinned = Pinned(
            PinnedParts(
                folders=[self.root / folder for folder in folders],
                **{
                    "open": self.open,
                    "start": self.start,
                    "core": self.core,
                    "counts": self.metrics,
                    **parts,
                },
            )
        )
        pinned.recall()
        task = asyncio.create_task(pinned.run())
        await settled(pinned)
        yield pinned
        task.cancel()

    def versions(self, model: str = "m") -> list[str]:
        return [loaded.version for loaded in self.core.models[model].versions]


async def settled(pinned: Pinned) -> None:
    """Wait until the folders were read and nobody asked for more."""
    reads = pinned.reads
    await eventually(lambda: pinned.reads > reads, "read")


async def reloaded(pinned: Pinned) -> None:
    pinned.reload()
    await settled(pinned)


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def site(tmp_path, keys) -> Site:
    return Site(tmp_path, keys)


def test_each_folder_is_its_models_stable_version(site):
    async def scenario():
        gather, mlp = site.put("a"), site.put("b", kind="mlp", name="n")
        assert not site.core.ready
        async with site.pinned("a", "b") as pinned:
            assert site.core.ready
            assert site.core.find("m").stable.version == gather
            assert site.core.find("n").stable.version == mlp
            status = pinned.status()
        assert (status["m"]["stable"], status["m"]["reason"]) == (gather, "pinned to a")
        assert status["m"]["refused"] == {}
        assert status["m"]["since"]

    asyncio.run(scenario())


def test_no_model_is_called_missing_before_every_folder_told_which_it_holds(site):
    async def scenario():
        site.put("a")
        (site.root / "b").mkdir()
        assert site.core.awaits("n")
        async with site.pinned("a", "b") as pinned:
            assert site.core.awaits("n")
            site.put("b", kind="mlp", name="n")
            await reloaded(pinned)
            assert "n" in site.core.models
            assert not site.core.awaits("o")

    asyncio.run(scenario())


def test_the_second_bundle_of_a_model_answers_those_who_name_it(site):
    async def scenario():
        first, second = site.put("a"), site.put("b", seed=1)
        async with site.pinned("a", "b") as pinned:
            serving = site.core.find("m")
            assert (serving.stable.version, serving.candidate) == (first, None)
            assert site.core.find_version("m", second[:12]).version == second
            assert pinned.status()["m"]["by_version"] == [second]

    asyncio.run(scenario())


def test_with_a_split_the_second_answers_its_share(site):
    async def scenario():
        first, second = site.put("a"), site.put("b", seed=1)
        third = site.put("c", seed=2)
        async with site.pinned("a", "b", "c", splits={"m": 30}) as pinned:
            serving = site.core.find("m")
            assert (serving.stable.version, serving.candidate.version) == (first, second)
            assert (serving.mode, serving.percent) == ("canary", 30)
            assert [loaded.version for loaded in serving.others] == [third]
            assert pinned.status()["m"]["candidate"] == second

    asyncio.run(scenario())


def test_a_reload_swaps_what_changed_and_leaves_the_rest_alone(site):
    async def scenario():
        site.put("a")
        other = site.put("b", kind="mlp", name="n")
        async with site.pinned("a", "b") as pinned:
            old, kept = site.core.find("m").stable, site.core.find("n").stable
            new = site.put("a", seed=1)
            await reloaded(pinned)
            assert (site.versions("m"), site.versions("n")) == ([new], [other])
            assert site.core.find("n").stable is kept
            assert (old.engine.closed, kept.engine.closed) == (True, False)
            assert site.checked == ["a", "b", "a"]

    asyncio.run(scenario())


def test_what_serves_goes_on_when_a_new_bundle_is_refused(site):
    async def scenario():
        version = site.put("a")
        async with site.pinned("a") as pinned:
            site.put("a", seed=1)
            with (site.root / "a/model.onnx").open("ab") as file:
                file.write(b"x")
            await reloaded(pinned)
            assert (site.versions(), site.core.ready) == ([version], True)
            assert not site.core.find("m").stable.engine.closed
            status = pinned.status()["m"]
            assert "model.onnx" in status["refused"]["a"]
            assert status["reason"] == "refused: a; what was served before goes on"
            repaired = site.put("a", seed=1)
            await reloaded(pinned)
            assert (site.versions(), pinned.status()["m"]["refused"]) == ([repaired], {})

    asyncio.run(scenario())


@pytest.mark.parametrize("damage", ["unsigned", "gone", "untrusted", "wrong answers"])
def test_a_host_that_never_had_a_good_bundle_is_not_ready_and_says_why(damage, site, tmp_path):
    async def scenario():
        site.put("a")
        site.put("b", kind="mlp", name="n")
        if damage == "unsigned":
            (site.root / "a/bundle.sig").unlink()
        if damage == "gone":
            shutil.rmtree(site.root / "a")
        if damage == "untrusted":
            shutil.rmtree(site.root / "a")
            make_tensor_bundle(site.root / "a", "gather", keys=make_keys(tmp_path / "others"))
        if damage == "wrong answers":
            shutil.rmtree(site.root / "a")
            make_bundle(site.root / "a", "m", site.keys, shift=0.5)
        async with site.pinned("a", "b") as pinned:
            assert not site.core.ready
            assert list(site.core.models) == ["n"]
            status = pinned.status()["a"]
            assert (status["stable"], list(status["refused"])) == (None, ["a"])
            assert status["reason"] == "refused: a; nothing serves yet"
            site.put("a")
            await reloaded(pinned)
            assert site.core.ready

    asyncio.run(scenario())


def test_one_version_in_two_folders_is_loaded_once(site):
    async def scenario():
        version = site.put("a")
        site.put("b")
        async with site.pinned("a", "b") as pinned:
            assert (len(site.started), site.versions(), site.core.ready) == (1, [version], True)
            other = site.put("a", seed=1)
            await reloaded(pinned)
            assert site.versions() == [other, version]
            assert not site.started[0].engine.closed

    asyncio.run(scenario())


def test_two_folders_may_change_places(site):
    async def scenario():
        first, second = site.put("a"), site.put("b", seed=1)
        async with site.pinned("a", "b") as pinned:
            site.put("a", seed=1)
            site.put("b")
            await reloaded(pinned)
            assert (site.versions(), len(site.started)) == ([second, first], 2)
            assert not any(loaded.engine.closed for loaded in site.started)

    asyncio.run(scenario())


def test_a_version_that_no_folder_holds_any_more_is_closed_once(site):
    async def scenario():
        site.put("a")
        site.put("b")
        async with site.pinned("a", "b") as pinned:
            for folder in ("a", "b"):
                site.put(folder, kind="mlp", name="n")
            await reloaded(pinned)
            assert list(site.core.models) == ["n"]
            assert site.started[0].engine.closed

    asyncio.run(scenario())


def test_what_is_opened_serves_only_when_all_folders_were_read(site):
    async def scenario():
        old = [site.put("a"), site.put("b", kind="mlp", name="n")]
        seen = []

        def watch(folder, model, version):
            seen.append([v for each in site.core.models for v in site.versions(each)])
            return site.open(folder, model, version)

        async with site.pinned("a", "b", open=watch) as pinned:
            new = [site.put("a", 1), site.put("b", 1, kind="mlp", name="n")]
            await reloaded(pinned)
            assert seen == [[], [], old, old]
            assert site.versions("m") + site.versions("n") == new

    asyncio.run(scenario())


def test_a_fault_in_opening_one_folder_leaves_the_others_serving(site):
    async def scenario():
        site.put("a")
        site.put("b", kind="mlp", name="n")

        def fail(folder, model, version):
            if model == "m":
                raise MemoryError("no memory")
            return site.open(folder, model, version)

        async with site.pinned("a", "b", open=fail) as pinned:
            assert list(site.core.models) == ["n"]
            assert "cannot load: MemoryError" in pinned.status()["a"]["refused"]["a"]

    asyncio.run(scenario())


def test_a_link_is_followed_anew_at_each_reload(site):
    async def scenario():
        first, second = site.put("one"), site.put("two", seed=1)
        link = site.root / "current"
        link.symlink_to("one")
        async with site.pinned("current") as pinned:
            assert site.versions() == [first]
            link.unlink()
            link.symlink_to("two")
            await reloaded(pinned)
            assert site.versions() == [second]

    asyncio.run(scenario())


def test_a_name_that_can_be_no_part_of_a_url_is_refused(site, tmp_path):
    async def scenario():
        make_bundle(tmp_path / "a", "../m", site.keys)
        async with site.pinned("a") as pinned:
            assert "cannot be the name" in pinned.status()["a"]["refused"]["a"]

    asyncio.run(scenario())
