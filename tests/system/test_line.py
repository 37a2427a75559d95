"""The whole line on a small checkout, as a user runs it: `slipway run`, over and over.

The tests of this file share one project and run in order: each leaves it serving.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.project import environment, make_project, run, slipway, stage, write_rows
from tests.support.pace import limit
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # whole lines: a dozen runs of all stages, a minute each


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = make_project(tmp_path_factory.mktemp("line") / "project")
    yield root
    slipway(root, "fleet", "down", "local")


@pytest.fixture(scope="module")
def first(line: Path) -> subprocess.CompletedProcess[str]:
    """The first run: everything is made."""
    return slipway(line, "run", "flights")


def hosts(root: Path) -> list[dict[str, Any]]:
    fleet = yaml.safe_load((root / "configs/fleets/local.yaml").read_text())
    return [{**host, "url": f"http://127.0.0.1:{host['port']}"} for host in fleet["hosts"]]


def ask(url: str) -> dict[str, Any]:
    inputs = [
        {"name": "kind", "datatype": "BYTES", "shape": [1], "data": ["alpha"]},
        {"name": "size", "datatype": "FP32", "shape": [1], "data": [0.5]},
        {"name": "weight", "datatype": "FP32", "shape": [1], "data": [None]},
    ]
    answer = httpx.post(f"{url}/v2/models/flights/infer", json={"inputs": inputs})
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def serving(root: Path) -> set[str]:
    return {ask(host["url"])["model_version"] for host in hosts(root)}


def last_run(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / ".slipway/runs/latest/run.json").read_text())
    return found


def channels(root: Path) -> list[str]:
    return sorted(p.name for p in (root / ".slipway/store/channels/local/flights").iterdir())


def edit(root: Path, before: str, after: str) -> None:
    path = root / "configs/flights.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_one_command_ends_with_two_hosts_that_answer(line: Path, first: Any):
    assert first.returncode == 0, first.stdout + first.stderr
    assert len(serving(line)) == 1
    [version] = serving(line)
    assert version in first.stdout


def test_it_prints_the_gates_the_curl_and_its_answer_the_report_and_how_to_stop(
    line: Path, first: Any
):
    assert re.search(r"network-fp32 +AUC +0\.\d+ +≥ 0\.7 +pass", first.stdout)
    for host in hosts(line):
        assert host["url"] in first.stdout
    assert "curl" in first.stdout
    assert '"probability"' in first.stdout
    assert "slipway fleet down local" in first.stdout
    report = re.search(r"\S+/report\.html", first.stdout)
    assert report is not None
    assert "<svg" in Path(report[0]).read_text()


def test_the_printed_curl_command_works(line: Path, first: Any):
    command = re.search(r"^curl .*$", first.stdout, re.M)
    assert command is not None
    done = subprocess.run(["sh", "-c", command[0]], capture_output=True, text=True)
    assert 0 < json.loads(done.stdout)["outputs"][0]["data"][0] < 1


def test_every_stage_has_a_line_with_its_time(first: Any):
    for name in ("ingest", "train network", "train trees", "quantize int8-static", "payload"):
        assert re.search(rf"✓ {name} +\d+\.\d s", first.stderr), name


def test_the_record_says_what_every_stage_took_and_what_went_in(line: Path, first: Any):
    assert first.returncode == 0
    run = last_run(line)
    for each in run["stages"]:
        assert each["exit"] == "exit code 0", each
        assert each["usage"]["cpu_s"] > 0, each
        assert each["why"], each
        assert each["outs"], each
    assert run["started_by"]["kind"] == "terminal"
    assert run["inputs"]["sources"]["things"]["rows"] == 12_000
    assert run["metrics"]["auc"] > 0.6


def test_a_second_run_finds_nothing_to_do(line: Path, first: Any):
    before = channels(line)
    again = slipway(line, "run", "flights")
    assert again.returncode == 0, again.stderr
    assert "already serves v" in again.stdout + again.stderr
    assert channels(line) == before
    assert {s["state"] for s in last_run(line)["stages"]} == {"skipped"}


def test_hosts_that_were_stopped_are_started_again(line: Path, first: Any):
    before = serving(line)
    assert slipway(line, "fleet", "down", "local").returncode == 0
    with pytest.raises(httpx.ConnectError):
        serving(line)
    assert slipway(line, "run", "flights").returncode == 0
    assert serving(line) == before


def test_a_bare_dvc_repro_agrees_with_the_flow_and_needs_no_key(line: Path, first: Any):
    lock = (line / "dvc.lock").read_bytes()
    keys = line / ".slipway/keys"
    keys.rename(line / ".slipway/keys.away")
    try:
        done = stage(line)
    finally:
        (line / ".slipway/keys.away").rename(keys)
    assert done.returncode == 0
    assert "Running stage" not in done.stdout
    assert (line / "dvc.lock").read_bytes() == lock


def test_a_version_leads_back_to_data_config_and_commit(line: Path, first: Any):
    [version] = serving(line)
    done = slipway(line, "trace", version)
    assert done.returncode == 0
    commit = run(line, "git", "rev-parse", "HEAD").stdout.strip()
    assert commit[:12] in done.stdout
    assert "rows.csv" in done.stdout


def test_the_keys_are_private_and_outside_git(line: Path, first: Any):
    for name in ("builder.key", "release.key"):
        assert (line / ".slipway/keys" / name).stat().st_mode & 0o777 == 0o600
    assert ".slipway" not in run(line, "git", "status", "--porcelain").stdout


@pytest.mark.parametrize("name", ["fligths", "../flights"])
def test_an_unknown_pipeline_is_refused_before_anything_runs(line: Path, name: str):
    done = slipway(line, "run", name)
    assert done.returncode == 2
    assert "unknown pipeline" in done.stderr


def test_a_pipeline_that_the_dag_does_not_name_is_refused_before_anything_is_written(line: Path):
    config = line / "configs/mine.yaml"
    config.write_text((line / "configs/flights.yaml").read_text())
    try:
        done = slipway(line, "run", "mine")
    finally:
        config.unlink()
    assert done.returncode == 2
    assert "add it to configs/pipelines.yaml" in done.stderr
    assert not (line / "data/mine").exists()


def test_a_typo_in_the_config_is_refused_with_the_near_name(line: Path, first: Any):
    edit(line, "epochs:", "epocs:")
    try:
        done = slipway(line, "run", "flights")
    finally:
        edit(line, "epocs:", "epochs:")
    assert done.returncode == 2
    assert "did you mean 'epochs'" in done.stderr


def test_a_model_trained_on_shuffled_labels_is_stopped_and_the_old_one_serves(
    line: Path, first: Any
):
    import random

    before, bundles = serving(line), list((line / ".slipway/store/bundles/flights").iterdir())
    rows = (line / "rows.csv").read_bytes()
    dice = random.Random(3)
    write_rows(line / "rows.csv", label=lambda chance: dice.random() < 0.4)
    try:
        done = slipway(line, "run", "flights")
    finally:
        (line / "rows.csv").write_bytes(rows)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"AUC +0\.\d+ +≥ 0\.7 +fail", done.stderr)
    assert serving(line) == before
    assert list((line / ".slipway/store/bundles/flights").iterdir()) == bundles
    assert "prove" in (line / ".slipway/runs/latest/report.html").read_text()


def start(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "slipway.cli", "run", "flights"],
        cwd=root, env=environment(), text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for said in process.stderr:
        if text in said:
            return
    raise AssertionError(f"{text!r} was never said")


def processes_in(root: Path) -> list[str]:
    """List what runs in a checkout, its hosts left out."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").resolve() == root.resolve():
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if command and " host " not in command:
                    found.append(command)
        except OSError:
            continue
    return found


def wait_until_gone(root: Path) -> None:
    wait_until(lambda: not processes_in(root), lambda: f"gone; still: {processes_in(root)}", 10)


@pytest.mark.parametrize(
    ("stop", "when"),
    [(signal.SIGKILL, "train "), (signal.SIGINT, "train "), (signal.SIGINT, "ingest")],
    ids=["kill -9 in training", "Ctrl-C in training", "Ctrl-C after ingest"],
)
def test_a_run_that_is_stopped_leaves_no_process_and_the_next_one_continues(
    line: Path, first: Any, stop: signal.Signals, when: str
):
    serving_before = serving(line)
    path = line / "configs/flights.yaml"
    config = yaml.safe_load(path.read_text())
    config["families"]["network"]["seed"] += 1
    if when == "ingest":
        config["ingest"]["query"] += " AND id >= 0"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    process = start(line)
    wait_for(process, when)
    os.killpg(process.pid, stop)
    process.communicate(timeout=limit(30))
    wait_until_gone(line)
    assert serving(line) == serving_before
    again = slipway(line, "run", "flights")
    assert again.returncode == 0, again.stderr
    assert last_run(line)["version"] in serving(line)
    assert len(serving(line)) == 1


def test_a_host_port_in_use_is_said_with_the_port(line: Path, first: Any):
    import socket

    slipway(line, "fleet", "down", "local")
    port = hosts(line)[0]["port"]
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = slipway(line, "fleet", "up", "local")
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert slipway(line, "fleet", "up", "local").returncode == 0
    assert len(serving(line)) == 1
