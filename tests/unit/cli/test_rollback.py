import sys

import pytest

from slipway.cli import main
from slipway.store.channel import Candidate
from tests.certificates import make_certificate
from tests.fleet_site import make_site


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A fleet whose hosts are down, with two versions released."""
    site = make_site(tmp_path / "project")
    monkeypatch.chdir(site.root)
    controller = site.controller()
    first = controller.write(None, stable="a" * 64, reason="first release")
    controller.write(first, stable="b" * 64, reason="promoted")
    return site


def show(site, credentials: str) -> None:
    """Name these credentials in the fleet's file."""
    path = site.root / "configs/fleets/local.yaml"
    path.write_text(path.read_text() + f"credentials: {{{credentials}}}\n")


def rollback(monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", ["slipway", "rollback", "flights", "--fleet", "local"])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize("missing", ["key_file", "ca"])
def test_a_rollback_is_written_without_the_credentials_for_hosts(
    site, tmp_path, monkeypatch, capsys, missing
):
    show(site, f"{missing}: gone")
    assert rollback(monkeypatch) == 0
    told = capsys.readouterr()
    assert f"{site.root}/gone: No such file or directory. The hosts are asked without" in told.err
    assert "host a: down" in told.out
    channel = site.controller().channel()
    assert (channel.stable, channel.rejected) == ("a" * 64, ["b" * 64])


def test_credentials_that_can_be_used_are_used(site, tmp_path, monkeypatch, capsys):
    key_file = tmp_path / "secret"
    key_file.write_text("slw_secret")
    key_file.chmod(0o600)
    show(site, f"key_file: {key_file}, ca: {make_certificate(tmp_path)[0]}")
    used = []
    monkeypatch.setattr(
        "slipway.fleet.controller.HttpClient", lambda credentials: used.append(credentials)
    )
    monkeypatch.setattr("slipway.fleet.rollback.rollback", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rollback(monkeypatch)
    assert used[0].key_file == key_file
    assert "asked without credentials" not in capsys.readouterr().err


def test_without_credentials_a_candidate_is_taken_to_answer(site, monkeypatch, capsys):
    show(site, "key_file: gone")
    controller = site.controller()
    candidate = Candidate(version="c" * 64, mode="canary", percent=20, lease_s=15.0)
    controller.write(controller.channel(), stable="b" * 64, candidate=candidate, reason="canary")
    assert rollback(monkeypatch) == 0
    assert "host a, b does not tell whether the candidate answers" in capsys.readouterr().err
    channel = controller.channel()
    assert (channel.stable, channel.rejected) == ("b" * 64, ["c" * 64])
