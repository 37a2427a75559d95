"""Checkpoints that are kept elsewhere as well."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from tasks import sums
from tasks.checkpoints import Checkpoints, Mirror
from tests.project import REPOSITORY
from tests.support.waiting import wait_until

DIGEST = "0123456789abcdef"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere"


@pytest.fixture
def said() -> list[str]:
    return []


def machine(folder: Path, url: object, said: list[str], every_s: float = 0.0) -> Checkpoints:
    return Checkpoints(folder, str(url), every_s=every_s, say=said.append)


def write(folder: Path, step: int, text: str = "weights") -> Path:
    """Write a checkpoint as training does: aside, sealed, renamed."""
    aside = folder / f"step-{step:08}.new"
    aside.mkdir()
    (aside / "model.safetensors").write_text(f"{text} {step}")
    (aside / "state.json").write_text("{}")
    sums.write(aside)
    return aside.rename(folder / f"step-{step:08}")


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-????????"))


def break_off(checkpoints: Checkpoints, *written: int) -> None:
    """Train, write these checkpoints, and fail."""

    def train() -> None:
        with checkpoints.kept(DIGEST) as folder:
            for step in written:
                write(folder, step)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()


def test_another_machine_goes_on_from_the_newest(tmp_path: Path, elsewhere: Path, said: list[str]):
    break_off(machine(tmp_path / "a", elsewhere, said), 10, 20, 30)
    with machine(tmp_path / "b", elsewhere, said).kept(DIGEST) as folder:
        assert steps(folder) == [30]
        assert (folder / "step-00000030/model.safetensors").read_text() == "weights 30"
        sums.check(folder / "step-00000030")
    assert said == [f"checkpoint step-00000030 fetched from {elsewhere}"]


def test_they_are_copied_while_training_goes_on_and_the_newest_two_stay(
    tmp_path: Path, elsewhere: Path, said: list[str]
):
    with machine(tmp_path / "a", elsewhere, said).kept(DIGEST) as folder:
        for step in (10, 20, 30, 40):
            write(folder, step)
            wait_until((elsewhere / DIGEST / f"step-{step:08}" / sums.SUMS).exists, f"step {step}")
        wait_until(lambda: steps(elsewhere / DIGEST) == [30, 40], "the newest two")
    assert said == []


def test_nothing_is_left_anywhere_of_a_training_that_ended(
    tmp_path: Path, elsewhere: Path, said: list[str]
):
    break_off(machine(tmp_path / "a", elsewhere, said), 10)
    with machine(tmp_path / "a", elsewhere, said).kept(DIGEST):
        pass
    assert list((tmp_path / "a").iterdir()) == list(elsewhere.iterdir()) == []


def test_not_more_often_than_asked_for_but_always_at_the_end(
    tmp_path: Path, elsewhere: Path, said: list[str]
):
    break_off(machine(tmp_path / "a", elsewhere, said, every_s=3600), *range(10, 60, 10))
    assert steps(elsewhere / DIGEST)[-1] == 50
    assert len(steps(elsewhere / DIGEST)) <= 2


@pytest.mark.parametrize("harm", ["flipped", "no seal", "cut off", "leads out"])
def test_a_damaged_one_is_passed_over_for_the_one_before(
    tmp_path: Path, elsewhere: Path, said: list[str], harm: str
):
    for step in (10, 20):
        break_off(machine(tmp_path / "a", elsewhere, said), step)
    bad = elsewhere / DIGEST / "step-00000020"
    if harm == "flipped":
        (bad / "model.safetensors").write_text("weights 21")
    elif harm == "no seal":
        (bad / sums.SUMS).unlink()
    elif harm == "cut off":
        (bad / "model.safetensors").unlink()
    else:
        digest = "0" * 64
        (bad / sums.SUMS).write_text(f"{digest}  ../../outside\n")
        (elsewhere / "outside").write_text("x")
    with machine(tmp_path / "b", elsewhere, said).kept(DIGEST) as folder:
        assert [path.name for path in folder.iterdir()] == ["step-00000010"]
    assert not (tmp_path / "b/outside").exists()


def test_what_is_here_and_newer_stays(tmp_path: Path, elsewhere: Path, said: list[str]):
    break_off(machine(tmp_path / "a", elsewhere, said), 10)
    shutil.copytree(elsewhere, tmp_path / "old")
    break_off(machine(tmp_path / "a", elsewhere, said), 20)
    with machine(tmp_path / "a", tmp_path / "old", said).kept(DIGEST) as folder:
        assert steps(folder) == [10, 20]
    assert said == []


def test_another_training_finds_none_of_them(tmp_path: Path, elsewhere: Path, said: list[str]):
    break_off(machine(tmp_path / "a", elsewhere, said), 10)
    with machine(tmp_path / "b", elsewhere, said).kept("f" * 16) as folder:
        assert list(folder.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said_once_and_costs_no_training(
    tmp_path: Path, elsewhere: Path, said: list[str]
):
    elsewhere.write_text("no folder")
    with machine(tmp_path / "a", elsewhere, said).kept(DIGEST) as folder:
        mirror = Mirror(
            folder, shown="there", url=f"{elsewhere}/{DIGEST}", every_s=0, say=said.append
        )
        for step in (10, 20):
            write(folder, step)
            mirror.finish()
    assert [line.partition(": ")[0] for line in said] == [
        f"checkpoints cannot be fetched from {elsewhere}",
        "checkpoints cannot be kept at there",
    ]


def test_sigterm_ends_the_training_copies_the_last_one_and_ends_the_process(
    tmp_path: Path, elsewhere: Path
):
    code = (
        "import sys, time; from pathlib import Path; from tasks.checkpoints import Checkpoints;"
        " from tests.unit.tasks.test_checkpoints import train_until_told;"
        " train_until_told(*sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a"), str(elsewhere)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "training\n"
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == -signal.SIGTERM
    assert steps(elsewhere / DIGEST)[-1] == 99


def train_until_told(folder: str, url: str) -> None:
    with machine(Path(folder), url, [], every_s=3600).kept(DIGEST) as own:
        write(own, 10)
        wait_until((Path(url) / DIGEST / "step-00000010" / sums.SUMS).exists, "the first")
        ranks = subprocess.Popen(["sleep", "3000"])
        try:
            sys.stdout.write("training\n")
            sys.stdout.flush()
            ranks.wait()
        except BaseException:
            ranks.terminate()
            ranks.wait()
            write(own, 99)  # what ranks do when they are told
            raise


def test_a_slow_copy_is_complete_though_training_has_dropped_the_checkpoint_meanwhile(
    tmp_path: Path, elsewhere: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
):
    put = LocalFileSystem.put_file

    def slowly(self: LocalFileSystem, source: str, target: str, **more: object) -> None:
        shutil.rmtree(tmp_path / "a" / DIGEST / "step-00000010", ignore_errors=True)
        put(self, source, target, **more)

    monkeypatch.setattr(LocalFileSystem, "put_file", slowly)
    break_off(machine(tmp_path / "a", elsewhere, said), 10)
    sums.check(elsewhere / DIGEST / "step-00000010")
    assert said == []
    assert list((tmp_path / "a" / DIGEST).iterdir()) == [], "nothing is left of what was held"
