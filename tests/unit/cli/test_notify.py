"""`slipway notify test` on a project with receivers on this machine."""

import json
from pathlib import Path

import pytest

from slipway.cli import main
from tests.receivers import webhook


def run(root: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(root)
    monkeypatch.setattr("sys.argv", ["slipway", "notify", "test", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "dvc.yaml").touch()
    return tmp_path


def notify(project: Path, *urls: str) -> None:
    targets = "".join(f"  - webhook: {{url: '{url}', style: slack}}\n" for url in urls)
    (project / "configs/notify.yaml").write_text(f"format: 1\ntargets:\n{targets}")


def test_every_target_is_sent_a_test_message(project, monkeypatch, capsys):
    with webhook() as received:
        notify(project, received.url)
        assert run(project, monkeypatch, "--json") == 0
    assert [sent["ok"] for sent in json.loads(capsys.readouterr().out)] == [True]
    assert "`slipway notify test` sent this" in received.bodies[0]["text"]


def test_a_target_that_refuses_is_named_without_its_address(project, monkeypatch, capsys):
    with webhook() as received:
        received.statuses += [404]
        notify(project, received.url, received.url)
        assert run(project, monkeypatch) == 1
    assert capsys.readouterr().out.splitlines() == [
        "slack webhook at 127.0.0.1: not sent: it answered 404 Not Found",
        "slack webhook at 127.0.0.1: sent",
    ]


def test_without_a_config_it_says_where_one_is_described(project, monkeypatch, capsys):
    assert run(project, monkeypatch) == 2
    assert "docs/prefect.md" in capsys.readouterr().err
