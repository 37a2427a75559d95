from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipway.backups import BACKUPS, DRILLS, BackupConfig, Note, find_config, newest, note, warnings
from slipway.config import pipelines
from slipway.errors import ConfigError

NOW = datetime(2026, 11, 30, tzinfo=UTC)
CONFIG = BackupConfig(format=1, to="/backup")


def made(root: Path, file: Path, days_ago: float, ok: bool = True) -> None:
    at = (NOW - timedelta(days=days_ago)).isoformat()
    note(root, file, Note(at, "/backup", "s", ok))


def test_a_project_without_a_config_plans_no_backups(tmp_path):
    assert find_config(tmp_path) is None


def test_the_config_is_read_strictly_and_every_problem_named(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/backup.yaml").write_text("format: 2\nencrypted: age\n")
    with pytest.raises(ConfigError) as refused:
        find_config(tmp_path)
    told = "\n".join(refused.value.problems)
    for problem in ("format", "to: missing", "encrypted: unknown key; did you mean 'encrypt'?"):
        assert problem in told


def test_the_config_of_backups_is_no_pipeline(tmp_path):
    (tmp_path / "configs").mkdir()
    for name in ("flights", "backup"):
        (tmp_path / f"configs/{name}.yaml").touch()
    assert pipelines(tmp_path) == ["flights"]


def test_what_was_never_made_is_warned_of_with_the_command_to_type(tmp_path):
    found = warnings(tmp_path, CONFIG, NOW)
    assert found["backup"] == "WARNING: none was ever made from here: slipway backup"
    assert found["drill"].endswith("slipway restore --drill /backup")


@pytest.mark.parametrize(
    ("backup_days", "drill_days", "warned"),
    [(6.9, 29.9, []), (7.1, 1, ["backup"]), (1, 30.1, ["drill"]), (8, 31, ["backup", "drill"])],
)
def test_old_ones_are_warned_of_after_the_days_of_the_config(
    tmp_path, backup_days, drill_days, warned
):
    made(tmp_path, BACKUPS, backup_days)
    made(tmp_path, DRILLS, drill_days)
    found = warnings(tmp_path, CONFIG, NOW)
    assert [name for name, told in found.items() if told.startswith("WARNING")] == warned


def test_a_drill_that_found_something_missing_does_not_count(tmp_path):
    made(tmp_path, DRILLS, 20)
    made(tmp_path, DRILLS, 1, ok=False)
    kept = newest(tmp_path, DRILLS)
    assert kept is not None
    assert datetime.fromisoformat(kept.at) == NOW - timedelta(days=20)


def test_a_line_that_a_power_cut_tore_is_skipped(tmp_path):
    made(tmp_path, BACKUPS, 3)
    with (tmp_path / BACKUPS).open("a") as notes:
        notes.write('{"at": "2026-11')
    kept = newest(tmp_path, BACKUPS)
    assert kept is not None
    assert kept.snapshot == "s"
