"""Training with real torchrun: killed, diverging, and the same bits again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.dag.tree import Tree
from slipway.gpu.devices import GpuDevice
from slipway.gpu.slots import Slots, hold, queue
from slipway.processes.supervise import descendants
from tests.project import environment, run
from tests.support.pace import limit
from tests.support.processes import alive
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # torchrun, over and over

GONE_S = 2.0


@pytest.fixture(scope="module")
def project(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout to train in again."""
    root = tmp_path_factory.mktemp("train") / "project"
    shutil.copytree(built, root, symlinks=True)
    return root


@pytest.fixture(scope="module")
def weights(built: Path) -> bytes:
    """Return the weights of an undisturbed training."""
    return (built / "models/flights/network/weights/model.safetensors").read_bytes()


def train_again(project: Path) -> None:
    """Have no weights; a checkpoint may be there, for the training to go on from."""
    run(
        project,
        "rm",
        "-rf",
        "models/flights/network/weights",
        "models/flights/network/training-report",
    )


def train_command() -> list[str]:
    return [sys.executable, "-m", "tasks", "train", "flights", "network"]


def test_training_again_gives_the_same_bytes(project: Path, weights: bytes):
    train_again(project)
    done = run(project, *train_command())
    assert done.returncode == 0, done.stderr
    assert (project / "models/flights/network/weights/model.safetensors").read_bytes() == weights


def test_training_waits_for_the_gpu_that_another_stage_has(
    project: Path, weights: bytes, tmp_path: Path
):
    gpu = (GpuDevice("nvidia0"),)
    code = (
        "import os, sys; from pathlib import Path; from slipway.gpu.devices import GpuDevice;"
        " from slipway.gpu.slots import Slots; from tasks.__main__ import main;"
        f" slots = Slots(Path({str(tmp_path / 'slots')!r}), (GpuDevice('nvidia0'),));"
        " code = main(['train', 'flights', 'network'], slots);"
        " print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['CUDA_DEVICE_ORDER']);"
        " sys.exit(code)"
    )
    train_again(project)
    with hold(Slots(tmp_path / "slots", gpu), gpu, "evaluate@trips", print):
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=project, env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("waiting for nvidia0: evaluate@trips in "), said
        tickets = queue(tmp_path / "slots")
        assert [ticket.what for ticket in tickets] == ["evaluate@trips", "train@flights-network"]
        assert not (project / "models/flights/network/weights/model.safetensors").exists()
    out, err = process.communicate(timeout=limit(120))
    assert (process.returncode, out) == (0, "0 PCI_BUS_ID\n"), err
    assert (project / "models/flights/network/weights/model.safetensors").read_bytes() == weights


def test_nothing_is_left_of_the_checkpoints_when_training_is_done(project: Path):
    assert list((project / ".slipway/checkpoints").iterdir()) == []


def wait_for_checkpoint(project: Path, process: subprocess.Popen[str]) -> None:
    def written() -> bool:
        assert process.poll() is None, "training ended before its first checkpoint"
        return any((project / ".slipway/checkpoints").glob("*/step-*0/state.json"))

    wait_until(written, "a checkpoint", 30)


def ranks(parent: int) -> list[int]:
    """List the training workers below a process."""

    def is_rank(pid: int) -> bool:
        with suppress(OSError):  # it has ended
            args = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            return "tasks.train.worker" in args and "torch.distributed.run" not in args
        return False

    return [pid for pid in descendants(parent) if is_rank(pid)]


@pytest.fixture(autouse=True)
def nothing_lives_on() -> Iterator[None]:
    """End what a test that failed left running: the next one would meet its checkpoints."""
    before = set(descendants(os.getpid()))
    yield
    for pid in set(descendants(os.getpid())) - before:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def start(project: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        train_command(), cwd=project, env=environment(), text=True, stderr=subprocess.PIPE
    )


def test_training_killed_with_all_its_ranks_goes_on_to_the_same_bytes(
    project: Path, weights: bytes
):
    train_again(project)
    process = start(project)
    wait_for_checkpoint(project, process)
    workers = ranks(process.pid)
    for pid in workers:
        assert os.getpriority(os.PRIO_PROCESS, pid) == 10, "behind what serves here"
        if (group := Path(f"/proc/{pid}/autogroup")).is_file():
            assert group.read_text().split()[-1] == "10", "and so is the rank's own session"
    assert len(workers) == 2
    process.kill()
    process.communicate()
    wait_until(
        lambda: not any(map(alive, workers)),
        "no rank outlives its parent",
    )
    train_again(project)
    again = run(project, *train_command())
    assert again.returncode == 0, again.stderr
    assert "resumed from step" in again.stderr
    assert (project / "models/flights/network/weights/model.safetensors").read_bytes() == weights


def test_training_that_is_told_to_stop_writes_a_checkpoint_and_ends_in_the_same_bytes(
    project: Path, weights: bytes
):
    train_again(project)
    tree = Tree(train_command(), project, environment(), project / "said", patience_s=limit(30))
    wait_until(
        lambda: any((project / ".slipway/checkpoints").glob("*/step-*0/state.json")),
        "a checkpoint",
        30,
    )
    tree.stop_gently()
    tree.wait(limit(60))
    said = re.search(r"stopped after step (\d+), with a checkpoint", (project / "said").read_text())
    assert said
    train_again(project)
    again = run(project, *train_command())
    assert again.returncode == 0, again.stderr
    assert f"resumed from step {said[1]}" in again.stderr
    assert (project / "models/flights/network/weights/model.safetensors").read_bytes() == weights


def test_another_machine_goes_on_from_the_checkpoints_that_a_lost_one_kept_elsewhere(
    project: Path, weights: bytes, tmp_path: Path
):
    elsewhere = tmp_path / "elsewhere"
    config = project / "configs/remote.yaml"
    config.write_text(f"format: 1\ncheckpoints: {elsewhere}\ncheckpoints_every_s: 0\n")
    other = tmp_path / "other machine"
    train_again(project)
    shutil.copytree(project, other, symlinks=True)
    process = start(project)
    wait_until(lambda: any(elsewhere.glob("*/step-*0/SHA256SUMS")), "a checkpoint elsewhere", 30)
    process.kill()
    process.communicate()
    shutil.rmtree(project / ".slipway/checkpoints")
    config.unlink()
    again = run(other, *train_command())
    assert again.returncode == 0, again.stderr
    assert re.search(r"checkpoint step-\d+0 fetched from ", again.stderr)
    assert "resumed from step" in again.stderr
    assert (other / "models/flights/network/weights/model.safetensors").read_bytes() == weights
    assert list(elsewhere.iterdir()) == []


def start_dvc(project: Path) -> subprocess.Popen[str]:
    """Run the stage as somebody does at a terminal, in a process group of its own."""
    command = [
        sys.executable,
        "-m",
        "dvc",
        "repro",
        "--force",
        "--single-item",
        "train@flights-network",
    ]
    return subprocess.Popen(
        command, cwd=project, env=environment(), start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def last_record(project: Path) -> dict[str, Any]:
    """Return the newest run's record, with its one stage."""
    found: dict[str, Any] = json.loads((project / ".slipway/runs/latest/run.json").read_text())
    return found


def test_kill_9_of_dvc_repro_leaves_nothing_and_training_goes_on(project: Path, weights: bytes):
    process = start_dvc(project)
    wait_for_checkpoint(project, process)
    below = descendants(process.pid)
    assert len(ranks(process.pid)) == 2
    process.kill()
    wait_until(lambda: not any(map(alive, below)), "nothing below DVC is left", GONE_S)
    process.communicate()
    (stage,) = last_record(project)["stages"]
    assert (stage["state"], stage["exit"]) == ("failed", "killed by SIGTERM")
    train_again(project)
    again = run(project, *train_command())
    assert "resumed from step" in again.stderr
    assert (project / "models/flights/network/weights/model.safetensors").read_bytes() == weights


def test_ctrl_c_in_dvc_repro_lets_training_write_its_checkpoint(project: Path, weights: bytes):
    process = start_dvc(project)
    wait_for_checkpoint(project, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to DVC and to the runner
    said, _ = process.communicate(timeout=limit(60))
    assert process.returncode != 0
    stopped = re.search(r"stopped after step (\d+), with a checkpoint", said)
    assert stopped, said
    assert "stopping: up to 30 s to save what was done" in said
    train_again(project)
    again = run(project, *train_command())
    assert f"resumed from step {stopped[1]}" in again.stderr
    assert (project / "models/flights/network/weights/model.safetensors").read_bytes() == weights


def test_a_killed_rank_is_replaced_and_training_ends_in_the_same_bytes(
    project: Path, weights: bytes
):
    train_again(project)
    process = start(project)
    wait_for_checkpoint(project, process)
    os.kill(ranks(process.pid)[1], signal.SIGKILL)
    _, said = process.communicate(timeout=limit(120))
    assert process.returncode == 0, said
    assert "resumed from step" in said
    assert (project / "models/flights/network/weights/model.safetensors").read_bytes() == weights


def test_training_that_diverges_is_stopped_with_what_to_change(project: Path):
    path = project / "configs/flights.yaml"
    before = path.read_text()
    config = yaml.safe_load(before)
    config["families"]["network"].update(learning_rate=1e30, warmup_steps=0)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    train_again(project)
    try:
        done = run(project, *train_command())
    finally:
        path.write_text(before)
    assert done.returncode == 1
    assert "training diverged: the loss was not finite at step" in done.stderr
    assert "lower families.network.learning_rate" in done.stderr
    assert not (project / "models/flights/network/weights/SHA256SUMS").exists()


@pytest.fixture
def small_disk(project: Path) -> Iterator[Path]:
    """Have checkpoints lie on a file system of their own, with room for none."""
    folder = project / ".slipway/checkpoints"
    options = ["-t", "tmpfs", "-o", "size=16k", "slipway-test"]
    if subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_ends_the_training_at_once_with_what_to_do(
    project: Path, small_disk: Path
):
    train_again(project)
    done = run(project, *train_command())
    assert done.returncode == 1
    said = done.stderr.partition("\nslipway: ")[2]
    assert said.startswith("training failed in rank 0: SafetensorError: ")
    assert f"no space left on the file system of {small_disk} (slipway-test at " in said
    assert "`slipway prune`" in said
    assert done.stderr.count("2 ranks, gloo") == 1, "it was tried once"


def test_a_flipped_byte_in_a_prepared_shard_is_refused(project: Path):
    shard = project / "data/flights/prepared/train-00000.arrow"
    before = shard.read_bytes()
    train_again(project)
    try:
        shard.write_bytes(before[:5000] + bytes([before[5000] ^ 1]) + before[5001:])
        done = run(project, *train_command())
    finally:
        shard.write_bytes(before)
    assert done.returncode == 1
    assert "train-00000.arrow differs from its SHA-256" in done.stderr


def test_the_curves_are_recorded(built: Path):
    report = json.loads((built / "models/flights/network/training-report/history.json").read_text())
    assert report["processes"] == 2
    assert report["evaluations"][-1]["auc"] > 0.8
    assert report["steps"][0]["train_loss"] > report["steps"][-1]["train_loss"]
