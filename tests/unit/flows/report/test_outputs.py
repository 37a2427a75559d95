"""A page that is made again does not show another run's numbers as this one's."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from flows.commands import report
from flows.report.outputs import Changed, changed_since
from slipway.bundle.manifest import payload_version
from slipway.runs import record
from slipway.runs.inputs import Inputs, file_sha256
from slipway.runs.record import Record
from slipway.runs.run import Run, StageOutcome
from tasks import sums
from tests.bundles import make_payload
from tests.stage_files import write_stage_files

RAW, PAYLOAD = Path("data/flights/raw"), Path("models/flights/payload")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in which a run left everything, sealed."""
    write_stage_files(tmp_path)
    make_payload(tmp_path / PAYLOAD)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/flights.yaml").write_text("train: 1\n")
    for folder in (RAW, PAYLOAD):
        sums.write(tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def entry(root: Path) -> Record:
    """The record of that run."""
    stages = tuple(
        StageOutcome(f"{name}@flights", "ran", outs=sums.seals([folder], root))
        for name, folder in (("ingest", RAW), ("payload", PAYLOAD))
    )
    digest = file_sha256(root / "configs/flights.yaml")
    run = Run(
        pipeline="flights",
        stages=stages,
        version=_version(root),
        inputs=Inputs(config_sha256=digest),
    )
    return record.begin(root, run)


def _version(root: Path) -> str:
    (root / PAYLOAD / sums.SUMS).rename(root / "aside")
    version = payload_version(root / PAYLOAD)
    (root / "aside").rename(root / PAYLOAD / sums.SUMS)
    return version


def another_run(root: Path) -> None:
    (root / RAW / "table.json").write_text('{"rows": 7654321}')
    sums.write(root / RAW)


def test_right_after_a_run_nothing_has_changed(root: Path, entry: Record) -> None:
    assert changed_since(root, entry.run) == Changed()
    assert changed_since(root, entry.run).sentence == ""


def test_what_another_run_wrote_is_not_shown_and_said_to_be_missing(
    root: Path, entry: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([entry.run.run]) == 0
    assert "327,346" in entry.report.read_text()
    another_run(root)
    capsys.readouterr()
    assert report.main(["latest"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(entry.report)
    assert err.startswith("By now the folders of ingest hold what another run left")
    page = entry.report.read_text()
    assert not {"327,346", "7,654,321"} & set(re.findall(r"[\d,]+", page))
    assert "By now the folders of ingest hold what another run left" in page


def test_an_edited_config_is_told(root: Path, entry: Record) -> None:
    (root / "configs/flights.yaml").write_text("train: 2\n")
    assert changed_since(root, entry.run) == Changed(config=True)


def test_a_record_that_does_not_say_what_was_left_is_doubted(root: Path, entry: Record) -> None:
    stages = tuple(replace(stage, outs={}) for stage in entry.run.stages)
    old = replace(entry.run, stages=stages, version="ab" * 32)
    found = changed_since(root, old)
    assert found.unknown == ("ingest", "payload")
    assert found.version == entry.run.version
    assert "does not say what ingest, payload left" in found.sentence


def test_a_run_that_does_not_exist_is_an_error(
    root: Path, entry: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main(["1999"]) == 1
    assert "no run begins with '1999'" in capsys.readouterr().err
