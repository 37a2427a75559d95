import json
import sys
from pathlib import Path

import pytest

from slipway.cli import main
from slipway.cli.doctor import examine
from tests.fleet_site import make_project

FLOW = "import json, os, sys\nprint(json.dumps([os.getcwd(), sys.argv[1:]]))\n"


def slipway(monkeypatch, *args: str) -> int:
    """Run the command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["slipway", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project whose flows only tell how they were called."""
    root = make_project(tmp_path / "project")
    (root / "flows/commands").mkdir(parents=True)
    for flow in ("backup", "restore", "prune"):
        (root / f"flows/commands/{flow}.py").write_text(FLOW)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3] / "src"))
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["backup"], []),
        (["backup", "s3://b/x"], ["s3://b/x"]),
        (["backup", "/b", "--encrypt", "age -r x"], ["/b", "--encrypt", "age -r x"]),
        (
            ["backup", "--without-secrets", "--dry-run", "--json"],
            ["--without-secrets", "--dry-run", "--json"],
        ),
        (["restore", "/b", "/new"], ["/b", "/new"]),
        (["restore", "/b", "--list", "--json"], ["/b", "--list", "--json"]),
        (["restore", "/b", "--drill", "--snapshot", "2"], ["/b", "--snapshot", "2", "--drill"]),
        (["prune"], ["--keep-runs", "50", "--keep-days", "90.0"]),
        (
            ["prune", "--keep-runs", "3", "--keep-days", "7", "--store", "--dry-run", "--json"],
            ["--keep-runs", "3", "--keep-days", "7.0", "--store", "--dry-run", "--json"],
        ),
    ],
)
def test_each_starts_its_flow_in_the_project_with_what_was_asked_for(
    project, monkeypatch, capfd, args, told
):
    assert slipway(monkeypatch, *args) == 0
    assert json.loads(capfd.readouterr().out) == [str(project), told]


def test_folders_are_those_of_where_they_were_typed(project, monkeypatch, capfd):
    here = project / "configs"
    monkeypatch.chdir(here)
    assert slipway(monkeypatch, "restore", "b", "new", "--decrypt", "age -d") == 0
    told = json.loads(capfd.readouterr().out)[1]
    assert told == [f"{here}/b", f"{here}/new", "--decrypt", "age -d", "--here", str(here)]
    assert slipway(monkeypatch, "backup", "b") == 0
    assert json.loads(capfd.readouterr().out)[1] == [f"{here}/b"]


@pytest.mark.parametrize("args", [[], ["new", "--list"], ["--list", "--drill"]])
def test_a_restore_does_one_thing(project, monkeypatch, capsys, args):
    assert slipway(monkeypatch, "restore", "/b", *args) == 2
    assert "the folder INTO, or --list, or --drill" in capsys.readouterr().err


def test_a_drill_is_for_a_project(project, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert slipway(monkeypatch, "restore", "/b", "--drill") == 2
    assert "is not inside a Slipway project" in capsys.readouterr().err


def test_without_a_checkout_a_restore_says_where_its_code_is(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert slipway(monkeypatch, "restore", "/b", "new") == 2
    assert "docs/backup.md" in capsys.readouterr().err


def test_the_doctor_tells_of_backups_only_where_they_are_planned(project):
    assert "backups" not in examine()
    (project / "configs/backup.yaml").write_text("format: 1\nto: /b\n")
    assert examine()["backups"]["backup"].startswith("WARNING: none was ever made")
    (project / "configs/backup.yaml").write_text("format: 1\n")
    assert "to: missing" in examine()["backups"]["unknown"]
