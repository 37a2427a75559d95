"""The runner binds what dvc.yaml declares to what a stage takes, or refuses."""

import errno
import shutil
import subprocess
from pathlib import Path

import pytest

from slipway.errors import ConfigError, SlipwayError, Unavailable
from slipway.gpu.slots import Slots
from slipway.processes.containment import Within
from slipway.runs.attempt import Attempt
from tasks import __main__ as runner
from tasks.__main__ import (
    Called,
    check_signature,
    gathered,
    gpu_memory_share,
    keyword,
    run_stage,
)
from tasks.candidates import CandidateModel
from tests.project import REPOSITORY


@pytest.mark.parametrize(
    ("path", "precision", "expected"),
    [
        ("data/flights/raw", None, "raw"),
        ("data/flights/sources.lock", None, "sources"),
        ("models/flights/trees/training-report", "trees", "training_report"),
        ("models/flights/network/int8-static", None, "network/int8-static"),
        ("models/flights/network/int8-static", "int8-static", "out"),
        ("models/flights/network/fp32", "int8-static", "fp32"),
        ("configs/expectations/flights.json", None, "expectations"),
    ],
)
def test_a_path_is_bound_by_its_base_name(path: str, precision: str | None, expected: str):
    assert keyword(Path(path), precision) == expected


def stage(config: object, *, raw: Path, valid: Path) -> None: ...


def test_a_signature_that_matches_passes():
    check_signature(stage, "validate@flights", {"raw", "valid"})


def test_both_sides_of_a_mismatch_are_named():
    with pytest.raises(ConfigError) as caught:
        check_signature(stage, "validate@flights", {"raw", "golden"})
    assert caught.value.problems == [
        "run() takes 'valid', which validate@flights does not declare",
        "validate@flights declares 'golden', which run() does not take",
    ]


def test_a_stage_that_takes_all_candidates_gets_them_by_family_and_precision():
    def run(config, *, candidates, gates):
        pass

    folders = [Path("models/flights") / each for each in ("trees/fp32", "network/int8-static")]
    deps = {keyword(each, None): each for each in (Path("models/flights/gates"), *folders)}
    named = (CandidateModel("trees", "fp32"), CandidateModel("network", "int8-static"))
    assert gathered(run, deps) == {
        "gates": Path("models/flights/gates"),
        "candidates": dict(zip(named, folders, strict=True)),
    }


def test_a_stage_that_takes_one_precision_gets_that_path():
    def run(config, *, fp32):
        pass

    assert gathered(run, {"fp32": Path("fp32")}) == {"fp32": Path("fp32")}


@pytest.fixture
def unlike_the_lock(tmp_path: Path) -> Path:
    """A project that locks what is not installed; it has no DAG, so nothing can run after that."""
    (tmp_path / "configs").mkdir()
    shutil.copy(REPOSITORY / "configs/flights.yaml", tmp_path / "configs")
    (tmp_path / "requirements.lock").write_text("no-such-thing==1\n")
    return tmp_path


def run_ingest(root: Path) -> None:
    """Run a stage that nobody records, on a machine without a GPU."""
    called = Called("ingest", "flights")
    entry = Attempt(called.address, None, by_itself=False)
    run_stage(root, called, entry, slots=Slots(root, ()), within=Within())


def test_no_stage_runs_where_other_versions_are_installed_than_locked(unlike_the_lock: Path):
    with pytest.raises(ConfigError, match="no-such-thing: locked 1, installed not at all"):
        run_ingest(unlike_the_lock)


def test_a_stage_says_in_one_line_that_it_runs_all_the_same(unlike_the_lock: Path, capfd):
    with (unlike_the_lock / "configs/flights.yaml").open("a") as config:
        config.write("environment: record\n")
    subprocess.run(["git", "init", "-q"], cwd=unlike_the_lock, check=True)
    with pytest.raises(ConfigError, match=r"dvc\.yaml"):
        run_ingest(unlike_the_lock)
    assert capfd.readouterr().err == (
        "the environment is not that of requirements.lock:"
        " no-such-thing: locked 1, installed not at all\n"
    )


@pytest.fixture
def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Have the runner's stage end as it is told, and return the exit code."""
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)

    def end(error: Exception) -> int:
        def run_stage(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(runner, "run_stage", run_stage)
        return runner.main(["train", "flights"], Slots(tmp_path / "slots", ()))

    return end


def test_a_flow_can_tell_by_the_exit_code_what_may_succeed_later(ends):
    assert ends(Unavailable("the source does not answer")) == 75
    assert ends(SlipwayError("the training diverged")) == 1
    assert ends(ConfigError("configs/flights.yaml", ["train.epochs: missing"])) == 2


def test_a_full_disk_is_told_with_its_file_system_and_is_no_traceback(ends, tmp_path, capsys):
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "models/out.bin"))
    assert ends(error) == 1
    told = capsys.readouterr().err
    assert told.startswith("slipway: [Errno 28] No space left on device")
    assert f"\n  no space left on the file system of {tmp_path / 'models'} (" in told


def test_a_defect_keeps_its_traceback(ends):
    with pytest.raises(ZeroDivisionError):
        ends(ZeroDivisionError())


@pytest.mark.parametrize("share", [0, -0.5, 1.5, "most"])
def test_a_share_of_a_gpu_that_is_none_is_refused(share: object):
    with pytest.raises(
        ConfigError, match=r"train@flights: meta\.gpu_memory_share: must be above 0"
    ):
        gpu_memory_share("train@flights", {"gpu_memory_share": share})


def test_a_stage_has_all_of_a_gpu_where_nothing_else_is_said():
    assert gpu_memory_share("train@flights", {}) == 1.0
    assert gpu_memory_share("train@flights", {"gpu_memory_share": 0.8}) == 0.8
