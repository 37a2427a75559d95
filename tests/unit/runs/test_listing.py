"""Runs are found whichever version wrote them, and one that was killed is not called running."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import SlipwayError
from slipway.processes.marks import ProcessMark, mark_of
from slipway.runs import record
from slipway.runs.listing import Filter, StageCounts, counts, find_run, matching, read_runs, took_s
from slipway.runs.run import Run, StageOutcome

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)

OLD = {
    "run": "20261120-195400-3f2a",
    "pipeline": "flights",
    "state": "completed",
    "started_at": "2026-11-20T19:54:00+00:00",
    "finished_at": "2026-11-20T19:56:15+00:00",
    "stages": [{"stage": "train@flights", "state": "ran", "seconds": 71.8}],
    "git": {"commit": "9b1c"},
}
"""As the first version wrote it: without who started it, inputs, usage, process."""


def write(root: Path, content: Any, run: str = "20261120-195400-3f2a") -> None:
    folder = root / ".slipway/runs" / run
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_record_of_an_older_version_is_listed(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    [run] = read_runs(tmp_path)
    assert (run.run, run.state, run.started_by.kind) == (OLD["run"], "completed", "")
    assert run.stages == (StageOutcome("train@flights", "ran", seconds=71.8),)
    assert took_s(run, NOW) == 135.0


def test_what_a_later_version_adds_or_changes_costs_only_itself(tmp_path: Path) -> None:
    later = OLD | {"moon": 3, "started_by": {"kind": ["comet"], "who": "x"}, "inputs": [1]}
    write(tmp_path, later)
    [run] = read_runs(tmp_path)
    assert (run.pipeline, run.started_by.kind, run.started_by.who) == ("flights", "", "x")


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_record_that_cannot_be_read_is_a_run_all_the_same(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    [run] = read_runs(tmp_path)
    assert (run.run, run.state) == (OLD["run"], "")


def test_the_newest_comes_first_and_latest_is_no_run_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    newer = record.begin(tmp_path, Run(pipeline="flights"))
    assert [run.run for run in read_runs(tmp_path)] == [newer.run.run, OLD["run"]]


def test_a_run_whose_process_is_gone_was_interrupted(tmp_path: Path) -> None:
    mine = mark_of(os.getpid())
    assert mine is not None
    gone = replace(mine, start_ticks=1)
    entry = record.begin(tmp_path, Run(pipeline="flights", process=gone))
    entry.note_stages((StageOutcome("train@flights", "running"),))
    [run] = read_runs(tmp_path)
    assert (run.state, run.stages[0].state) == ("interrupted", "stopped")
    assert json.loads((entry.folder / "run.json").read_text())["state"] == "running"


@pytest.mark.parametrize("process", [None, ProcessMark(1, 1, "boot", "elsewhere")])
def test_of_a_run_that_lives_or_is_elsewhere_nobody_says_it_ended(
    tmp_path: Path, process: ProcessMark | None
) -> None:
    record.begin(tmp_path, Run(pipeline="flights", process=process))
    assert [run.state for run in read_runs(tmp_path)] == ["running"]


RUNS = [
    Run("20261130-110000-cccc", "flights", state="failed", started_at="2026-11-30T11:00:00+00:00"),
    Run("20261129-110000-bbbb", "fares", state="failed", started_at="2026-11-29T11:00:00+00:00"),
    Run("20261129-100000-aaaa", "flights", state="running", started_at="2026-11-29T10:00:00"),
    Run("20261128-100000-0000"),
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), [0, 1, 2, 3]),
        (Filter(pipeline="flights"), [0, 2]),
        (Filter(state="failed"), [0, 1]),
        (Filter(pipeline="flights", state="failed"), [0]),
        (Filter(since=datetime(2026, 11, 29, 11, tzinfo=UTC)), [0, 1]),
        (Filter(since=datetime(2026, 11, 29, tzinfo=UTC)), [0, 1, 2]),
    ],
)
def test_runs_are_chosen_by_pipeline_state_and_time(wanted: Filter, found: list[int]) -> None:
    assert matching(RUNS, wanted) == [RUNS[i] for i in found]


@pytest.mark.parametrize(
    ("text", "at"), [("latest", 0), ("20261129-11", 1), ("20261129-100000-aaaa", 2)]
)
def test_a_run_is_found_by_the_beginning_of_its_id(text: str, at: int) -> None:
    assert find_run(RUNS, text) == RUNS[at]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2025", "no run begins with '2025'; the newest: 20261130-110000-cccc, "),
        ("20261129", "2 runs begin with '20261129': 20261129-110000-bbbb, "),
    ],
)
def test_an_id_that_names_none_or_several_is_refused(text: str, said: str) -> None:
    with pytest.raises(SlipwayError, match=said):
        find_run(RUNS, text)


def test_without_any_run_it_is_said_how_to_start_one() -> None:
    with pytest.raises(SlipwayError, match="slipway run PIPELINE"):
        find_run([], "latest")


def test_stages_are_counted_by_what_became_of_them() -> None:
    states = ["ran", "ran", "skipped", "failed", "stopped", "not run"]
    run = Run(stages=tuple(StageOutcome(f"s{i}", state) for i, state in enumerate(states)))
    assert counts(run) == StageCounts(ran=2, skipped=1, failed=2)


def test_a_run_that_goes_on_has_taken_the_time_until_now() -> None:
    run = Run(state="running", started_at="2026-11-30T11:59:00+00:00")
    assert took_s(run, NOW) == 60.0
    assert took_s(replace(run, state="interrupted"), NOW) is None
