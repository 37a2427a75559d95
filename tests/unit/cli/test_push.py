import json
import shutil
import sys

import pytest

from slipway.cli import main
from tests.bundles import make_keys
from tests.fleet_site import make_site
from tests.tensors import make_tensor_bundle


@pytest.fixture
def site(tmp_path, monkeypatch):
    site = make_site(tmp_path / "project")
    monkeypatch.chdir(site.root)
    return site


@pytest.fixture
def bundle(site):
    """A bundle that the key of this project has signed; its keys lie where `onnx` makes them."""
    return make_tensor_bundle(site.root / "mlp", "mlp", keys=site.keys)


def push(monkeypatch, *args: str, fleet: str = "local") -> int:
    monkeypatch.setattr(sys, "argv", ["slipway", "bundle", "push", *args, "--fleet", fleet])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def in_store(site) -> list[str]:
    return site.store.names("bundles")


def test_a_pushed_bundle_is_in_the_store_and_the_next_command_is_told(
    site, bundle, monkeypatch, capsys
):
    assert push(monkeypatch, "mlp") == 0
    short = bundle.version[:12]
    out = capsys.readouterr().out
    assert out.startswith(f"v{short} of mlp is now in {site.store.url}, signed by builder ")
    assert f"slipway release mlp --version {short} --fleet local\n" in out
    assert site.store.names("bundles/mlp") == [bundle.version]


def test_a_second_push_changes_nothing_and_restores_what_is_damaged(
    site, bundle, monkeypatch, capsys
):
    push(monkeypatch, "mlp")
    stored = site.root / ".slipway/store/bundles/mlp" / bundle.version
    before = {path.name: path.read_bytes() for path in stored.iterdir()}
    (stored / "model.onnx").write_bytes(b"rot")
    capsys.readouterr()
    assert push(monkeypatch, "mlp", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["version"], told["new"]) == ("mlp", bundle.version, False)
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == before


def test_a_bundle_without_a_signature_is_refused_before_anything_is_written(
    site, bundle, monkeypatch, capsys
):
    (bundle.folder / "bundle.sig").unlink()
    assert push(monkeypatch, "mlp") == 1
    assert "slipway bundle onnx signs those that it makes" in capsys.readouterr().err
    assert in_store(site) == []


def test_a_signer_whom_the_fleet_does_not_trust_is_refused_with_how_to_trust_him(
    site, tmp_path, monkeypatch, capsys
):
    stranger = make_keys(tmp_path / "stranger")
    make_tensor_bundle(tmp_path / "theirs", "mlp", keys=stranger)
    assert push(monkeypatch, str(tmp_path / "theirs")) == 1
    told = capsys.readouterr().err
    assert "bundle.sig: signed by key" in told
    folder = site.fleet.trusted_keys / "builder"
    assert f"install -D -m 644 KEY.pub {folder}/KEY.pub" in told
    assert in_store(site) == []
    shutil.copyfile(tmp_path / "stranger/builder.pub", folder / "KEY.pub")  # as told
    assert push(monkeypatch, str(tmp_path / "theirs")) == 0
    assert in_store(site) == ["mlp"]


@pytest.mark.parametrize("name", ["model.onnx", "golden.arrow", "proof.json", "bundle.sig"])
def test_a_bundle_that_was_changed_is_refused_before_anything_is_written(
    site, bundle, monkeypatch, capsys, name
):
    path = bundle.folder / name
    path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))
    assert push(monkeypatch, "mlp") == 1
    assert name in capsys.readouterr().err
    assert in_store(site) == []


def test_an_unknown_fleet_and_no_folder_are_wrong_usage(site, bundle, monkeypatch, capsys):
    assert push(monkeypatch, "mlp", fleet="locl") == 2
    assert "did you mean 'local'" in capsys.readouterr().err
    assert push(monkeypatch, "nothing") == 2


def test_a_version_that_is_there_already_is_told_with_the_signer_that_it_has(
    site, bundle, tmp_path, monkeypatch, capsys
):
    stranger = make_keys(tmp_path / "stranger")
    theirs = make_tensor_bundle(tmp_path / "theirs", "mlp", keys=stranger)
    assert theirs.version == bundle.version
    public = site.fleet.trusted_keys / "builder/KEY.pub"
    shutil.copyfile(tmp_path / "stranger/builder.pub", public)
    assert push(monkeypatch, str(tmp_path / "theirs"), "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert push(monkeypatch, "mlp", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {**first, "new": False}

    public.unlink()
    assert push(monkeypatch, "mlp") == 1  # this checkout's signature is good, the stored is not
    told = capsys.readouterr().err
    assert f"signed by key {first['signed_by'][:12]!r}" in told
    stored = f"bundles/mlp/{bundle.version}"
    assert f"Remove {stored} from the store and push again" in told
    shutil.rmtree(site.root / ".slipway/store" / stored)  # as told
    assert push(monkeypatch, "mlp", "--json") == 0
    assert json.loads(capsys.readouterr().out)["signed_by"] != first["signed_by"]
