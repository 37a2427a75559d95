"""A stage is noted where its run is recorded, by whoever runs it, and never at its cost."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import BundleRefused
from slipway.processes.marks import ProcessMark, mark_of
from slipway.runs import attempt
from slipway.runs.attempt import (
    NOTHING,
    Attempt,
    Results,
    exit_words,
    note_under_dvc,
    noted_by_runner,
)
from slipway.runs.run import GateResult, StageOutcome

RUN = "20261130-100000-aaaa"
TRAIN = StageOutcome("train@flights", "running", started_at="2026-11-30T10:00:00+00:00")


def me() -> ProcessMark:
    mark = mark_of(os.getpid())
    assert mark is not None
    return mark


def records(root: Path) -> list[dict[str, Any]]:
    paths = sorted((root / ".slipway/runs").glob("2*/run.json"))
    return [json.loads(path.read_text()) for path in paths]


def note(root: Path, outcome: StageOutcome, results: Results = NOTHING, **where: Any) -> None:
    process, pipeline = where.get("process") or me(), where.get("pipeline", "flights")
    note_under_dvc(root, process, pipeline, outcome=outcome, results=results)


class TestUnderAFlow:
    @pytest.fixture(autouse=True)
    def of_a_flow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(attempt.RUN, RUN)

    def test_a_stage_is_noted_beside_the_flows_record(self, tmp_path: Path) -> None:
        folder = tmp_path / ".slipway/runs" / RUN
        entry = attempt.begin(tmp_path, "flights", "train@flights")
        begun = noted_by_runner(folder, "train@flights")
        assert begun is not None
        assert (begun.state, begun.exit) == ("running", None)
        entry.end(0, outs={"models/flights/weights": "ab"})
        ended = noted_by_runner(folder, "train@flights")
        assert ended is not None
        assert (ended.state, ended.exit) == ("ran", "exit code 0")
        assert ended.outs == {"models/flights/weights": "ab"}
        assert (ended.usage.peak_rss_bytes or 0) > 1_000_000
        assert ended.seconds is not None
        assert records(tmp_path) == []

    def test_a_failure_is_noted_with_its_message(self, tmp_path: Path) -> None:
        attempt.begin(tmp_path, "flights", "train@flights").end(1, "diverged")
        ended = noted_by_runner(tmp_path / ".slipway/runs" / RUN, "train@flights")
        assert ended is not None
        assert (ended.state, ended.exit, ended.error) == ("failed", "exit code 1", "diverged")

    def test_why_a_stage_runs_and_what_it_came_to_is_left_to_the_flow(self, tmp_path: Path) -> None:
        entry = attempt.begin(tmp_path, "flights", "train@flights")
        entry.explain(lambda: pytest.fail("the flow asked DVC before"))
        entry.end(0, results=lambda: pytest.fail("the flow reads them after"))

    def test_an_id_that_is_none_leads_nowhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(attempt.RUN, "../../elsewhere")
        attempt.begin(tmp_path, "flights", "train@flights").end(0)
        assert list(tmp_path.rglob("*")) == []

    def test_a_record_that_cannot_be_written_costs_only_itself(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / ".slipway").write_text("a file where a folder should be")
        attempt.begin(tmp_path, "flights", "train@flights").end(0)
        said = capsys.readouterr().err
        assert said.count("the record of this run could not be written: ") == 2
        assert "slipway: " not in said  # the flow would take it for the stage's own error


def test_under_dvc_repro_the_stage_asks_itself_why_it_runs(tmp_path: Path) -> None:
    kept: list[StageOutcome] = []
    entry = Attempt("train@flights", lambda outcome, _: kept.append(outcome), by_itself=True)
    entry.explain(lambda: ("train.epochs modified",))
    entry.end(0)
    assert [outcome.why for outcome in kept] == [(), *[("train.epochs modified",)] * 2]


def test_a_reason_that_dvc_cannot_give_stops_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    entry = Attempt("train@flights", lambda *_: None, by_itself=True)
    entry.explain(lambda: (_ for _ in ()).throw(RuntimeError("no lock")))
    entry.end(0)
    assert capsys.readouterr().err == "why this stage runs is not known: no lock\n"


def test_results_that_cannot_be_read_cost_only_themselves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def damaged() -> Results:
        raise BundleRefused("contract.json is damaged")

    kept: list[StageOutcome] = []
    entry = Attempt("payload@flights", lambda outcome, _: kept.append(outcome), by_itself=True)
    entry.end(0, results=damaged)
    said = capsys.readouterr().err
    assert said == "what this stage came to could not be read: contract.json is damaged\n"
    assert [outcome.state for outcome in kept] == ["running", "ran"]


def test_a_stage_that_nobodys_dvc_started_is_noted_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(attempt.RUN, raising=False)
    monkeypatch.delenv(attempt.DVC_STAGE, raising=False)
    attempt.begin(tmp_path, "flights", "train@flights").end(0)
    assert list(tmp_path.rglob("*")) == []


def test_stages_of_one_dvc_process_land_in_one_record(tmp_path: Path) -> None:
    note(tmp_path, replace(TRAIN, stage="ingest@flights", state="ran"), Results(rows={"a": 3}))
    note(tmp_path, TRAIN)
    [run] = records(tmp_path)
    assert (run["state"], run["finished_at"]) == ("running", None)
    gate = GateResult("auc_floor", 0.7, 0.6, "min", "pass", "fp32")
    note(tmp_path, replace(TRAIN, state="ran"), Results("ab", "fp32", {"auc": 0.7}, (gate,)))
    [run] = records(tmp_path)
    assert [(s["stage"], s["state"]) for s in run["stages"]] == [
        ("ingest@flights", "ran"),
        ("train@flights", "ran"),
    ]
    assert (run["state"], run["version"], run["metrics"]) == ("completed", "ab", {"auc": 0.7})
    assert run["started_by"]["kind"] == "dvc repro"
    assert run["process"]["pid"] == os.getpid()
    assert (tmp_path / ".slipway/runs/latest/run.json").is_file()


def test_the_last_stage_says_whether_the_run_failed(tmp_path: Path) -> None:
    note(tmp_path, replace(TRAIN, state="failed", error="diverged"))
    assert [(run["state"], run["error"]) for run in records(tmp_path)] == [("failed", "diverged")]


def test_another_dvc_process_or_pipeline_has_a_record_of_its_own(tmp_path: Path) -> None:
    ended = replace(TRAIN, state="ran")
    note(tmp_path, ended)
    note(tmp_path, ended, process=replace(me(), start_ticks=1))
    note(tmp_path, ended, pipeline="fares")
    assert sorted(run["pipeline"] for run in records(tmp_path)) == ["fares", "flights", "flights"]


def test_stages_that_end_at_the_same_time_are_all_in_the_record(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from slipway.runs.attempt import NOTHING, note_under_dvc\n"
        "from slipway.processes.marks import mark_of\n"
        "from slipway.runs.run import StageOutcome\n"
        "dvc = mark_of(int(sys.argv[1]))\n"
        "sys.stdin.readline()\n"
        "outcome = StageOutcome(sys.argv[2], 'ran')\n"
        "for _ in range(20):\n"
        "    note_under_dvc(Path(), dvc, 'p', outcome=outcome, results=NOTHING)\n"
    )
    names = [f"s{i}@p" for i in range(4)]
    runners = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(os.getpid()), name],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
        )
        for name in names
    ]
    for runner in runners:
        assert runner.stdin is not None
        runner.stdin.close()
    assert [runner.wait() for runner in runners] == [0] * 4
    [run] = records(tmp_path)
    assert sorted(stage["stage"] for stage in run["stages"]) == names


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (1, "exit code 1"),
        (2, "exit code 2"),
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (128 + signal.SIGKILL, "killed by SIGKILL"),
        (255, "exit code 255"),
    ],
)
def test_an_exit_is_told_in_words(code: int, words: str) -> None:
    assert exit_words(code) == words
