"""What a person's `dvc repro` did is in a record of the same kind as a flow's."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.bundle.manifest import payload_version
from slipway.runs.difference import ORDER
from tests.project import environment, slipway, stage
from tests.support.waiting import wait_until

STARTED_S = 120.0
"""From `dvc repro` to a stage that runs: DVC looks at every file first, and imports take long."""

MIB = 1 << 20


def runs(root: Path, *options: str) -> list[dict[str, Any]]:
    done = slipway(root, "runs", "--json", *options)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def edit(root: Path, section: str, **values: object) -> None:
    path = root / "configs/flights.yaml"
    config = yaml.safe_load(path.read_text())
    config[section].update(values)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A copy of the built project, to be changed."""
    root = tmp_path / "copy"
    shutil.copytree(built, root, symlinks=True)
    return root


@pytest.mark.slow
def test_dvc_repro_leaves_one_record_of_all_its_stages(built: Path) -> None:
    [run] = runs(built)
    lock = yaml.safe_load((built / "dvc.lock").read_text())
    assert run["started_by"]["kind"] == "dvc repro"
    assert (run["state"], run["pipeline"]) == ("completed", "flights")
    stages = {each["stage"]: each for each in run["stages"]}
    assert stages.keys() == lock["stages"].keys()
    for name, each in stages.items():
        usage = each["usage"]
        assert (each["state"], each["exit"]) == ("ran", "exit code 0"), name
        assert usage["cpu_s"] > 0.1, name
        assert usage["peak_rss_bytes"] > 50 * MIB, name
        assert usage["read_bytes"] > MIB, name
        assert usage["written_bytes"] > 0, name
        assert each["outs"], name
    assert run["version"] == payload_version(built / "models/flights/payload")
    assert run["inputs"]["sources"]["things"]["rows"] == 12_000
    assert run["inputs"]["config"]["families.network.epochs"] == 2
    assert 0.6 < run["metrics"]["auc"] < 1
    assert {gate["verdict"] for gate in run["gates"]} >= {"pass"}
    assert run["git"]["commit"]


@pytest.mark.slow
def test_a_dvc_repro_that_skips_everything_is_no_run(built: Path) -> None:
    assert stage(built).returncode == 0
    assert len(runs(built)) == 1


@pytest.mark.slow
def test_a_failure_is_recorded_compared_and_reported(copy: Path) -> None:
    [first] = runs(copy)
    limits = {
        "auc": {"worst": 0.999, "loss_max": 0.01},
        "log_loss": {"worst": 0.65, "loss_max": 0.05},
    }
    edit(copy, "prove", quality=limits)
    assert stage(copy).returncode != 0
    failed, _ = runs(copy)
    [proved] = failed["stages"]
    assert failed["state"] == "failed"
    assert (proved["stage"], proved["exit"]) == ("prove@flights", "exit code 1")
    assert proved["error"] == failed["error"]
    assert proved["why"] == ["prove modified"]
    assert [run["run"] for run in runs(copy, "--state", "failed")] == [failed["run"]]

    told = json.loads(slipway(copy, "diff", first["run"], "latest", "--json").stdout)
    config = [d for d in told["differences"] if d["kind"] == "config"]
    assert sorted((d["name"], d["before"], d["after"]) for d in config) == [
        ("prove.quality.auc.loss_max", 0.02, 0.01),
        ("prove.quality.auc.worst", 0.7, 0.999),
    ]
    kinds = [d["kind"] for d in told["differences"] if d["kind"] != "code"]
    assert kinds == sorted(kinds, key=ORDER.index)
    assert {"config", "stages"} <= set(kinds)

    done = slipway(copy, "runs", "report", first["run"])
    assert done.returncode == 0, done.stderr
    assert "the folders of prove" in done.stderr
    page = Path(done.stdout.strip()).read_text()
    assert "what this run read from them cannot be shown any more" in page
    assert "12,000" in page  # what ingest left is still that run's


@pytest.mark.slow
def test_a_killed_dvc_repro_is_shown_as_interrupted(copy: Path) -> None:
    network = yaml.safe_load((copy / "configs/flights.yaml").read_text())["families"]["network"]
    edit(copy, "families", network=network | {"epochs": 2000, "patience": 100_000})
    command = [sys.executable, "-m", "dvc", "repro", "train@flights-network"]
    with subprocess.Popen(
        command,
        cwd=copy,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as dvc:
        try:
            wait_until(lambda: len(runs(copy)) == 2, "a stage runs", STARTED_S)
            assert runs(copy)[0]["state"] == "running"
            assert runs(copy)[0]["process"]["pid"] == dvc.pid
        finally:
            os.killpg(dvc.pid, signal.SIGKILL)
    killed = runs(copy)[0]
    assert (killed["state"], killed["stages"][0]["state"]) == ("interrupted", "stopped")
    assert "interrupted" in slipway(copy, "runs").stdout
