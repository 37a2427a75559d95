"""A record says as much as is known, at every moment, and is closed by whoever finds it open."""

import json
import os
import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipway.processes.marks import mark_of
from slipway.runs import record
from slipway.runs.listing import took_s
from slipway.runs.parsing import parse
from slipway.runs.run import DVC_REPRO, Run, StageOutcome, StageUsage, StartedBy

FLIGHTS = Run(pipeline="flights")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"state": "running"}', '{"run": "a", "state": "running", "b": 1}']
)
def test_a_record_of_another_version_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    entry = record.begin(tmp_path, FLIGHTS)
    (entry.folder / "run.json").write_text(text)
    assert record.find_killed(tmp_path) is None


def test_a_record_says_what_is_not_known_yet(tmp_path: Path) -> None:
    entry = record.begin(tmp_path, Run(pipeline="flights", fleet="local"))
    entry.note_stages((StageOutcome("train@flights", "not run", ("changed command",)),))
    run = json.loads((entry.folder / "run.json").read_text())
    assert run.pop("started_at")
    assert run == {
        "run": entry.run.run,
        "pipeline": "flights",
        "fleet": "local",
        "started_by": {"kind": "terminal", "who": entry.run.started_by.who},
        "state": "running",
        "finished_at": None,
        "stages": [{"stage": "train@flights", "state": "not run", "why": ["changed command"]}],
        "version": None,
        "precision": None,
        "metrics": {},
        "gates": [],
        "published": None,
        "remote": None,
        "release": None,
        "hosts": [],
        "git": {},
        "inputs": {
            "config_sha256": None,
            "config": {},
            "sources": {},
            "requirements_sha256": None,
            "libraries": {},
        },
        "process": asdict(mark_of(os.getpid())),
        "prefect_flow_run": None,
        "environment": [],
        "error": None,
        "notices": [],
    }


def test_what_is_noted_of_an_older_run_leaves_latest_alone(tmp_path: Path) -> None:
    old = record.begin(tmp_path, replace(FLIGHTS, run="20261130-100000-aaaa"))
    new = record.begin(tmp_path, FLIGHTS)
    old.note(replace(old.run, error="its machine is gone"))
    assert os.readlink(tmp_path / ".slipway/runs/latest") == new.run.run


def test_latest_points_at_the_run_that_began_last(tmp_path: Path) -> None:
    first = record.begin(tmp_path, FLIGHTS)
    second = record.begin(tmp_path, FLIGHTS)
    latest = tmp_path / ".slipway/runs/latest"
    assert os.readlink(latest) == second.run.run
    assert first.run.run != second.run.run
    assert json.loads((latest / "run.json").read_text())["state"] == "running"


def test_stages_that_report_at_the_same_time_leave_a_whole_record(tmp_path: Path) -> None:
    entry = record.begin(tmp_path, FLIGHTS)
    stages = [(StageOutcome(f"s{i}", "ran", seconds=1.0),) for i in range(8)]
    threads = [threading.Thread(target=entry.note_stages, args=[one]) for one in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [written] = json.loads((entry.folder / "run.json").read_text())["stages"]
    assert parse(StageOutcome, written) in [one for [one] in stages]


def test_the_killed_flow_is_found_behind_what_dvc_repro_keeps(tmp_path: Path) -> None:
    killed = record.begin(tmp_path, replace(FLIGHTS, run="20261130-100000-aaaa"))
    by_hand = StartedBy(DVC_REPRO, "me@here")
    record.begin(tmp_path, replace(FLIGHTS, run="20261130-110000-bbbb", started_by=by_hand))
    found = record.find_killed(tmp_path)
    assert found is not None
    assert found.run == killed.run


def test_a_flow_that_ended_hides_older_ones(tmp_path: Path) -> None:
    record.begin(tmp_path, replace(FLIGHTS, run="20261130-100000-aaaa"))
    record.begin(tmp_path, replace(FLIGHTS, run="20261130-110000-bbbb")).close("completed")
    assert record.find_killed(tmp_path) is None


def test_a_stage_that_took_nothing_says_zero_and_is_read_as_it_was() -> None:
    stage = StageOutcome("a@b", "ran", usage=StageUsage(cpu_s=0.0, read_bytes=0), seconds=0.0)
    written = json.loads(json.dumps(stage.to_dict()))
    assert written == {
        "stage": "a@b",
        "state": "ran",
        "seconds": 0.0,
        "usage": {"cpu_s": 0.0, "read_bytes": 0},
    }
    assert parse(StageOutcome, written) == stage


def test_who_starts_a_run_at_a_terminal_is_named_with_the_machine() -> None:
    user, _, host = record.at_terminal().who.partition("@")
    assert user
    assert host == os.uname().nodename


NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_ids_sort_by_their_order_even_where_the_clock_was_set_back(tmp_path: Path) -> None:
    ids = []
    for at in (NOON, NOON - timedelta(hours=1), NOON - timedelta(hours=1), NOON):
        ids.append(record.new_id(tmp_path, "0a1b", at))
        record.begin(tmp_path, replace(FLIGHTS, run=ids[-1]))
    assert ids == sorted(set(ids))
    assert ids[0] == "20261120-120000-0a1b"
    later = record.new_id(tmp_path, "0a1b", NOON + timedelta(hours=1))
    assert later == "20261120-130000-0a1b"


def test_a_folder_with_any_other_name_does_not_keep_runs_from_their_ids(tmp_path: Path) -> None:
    for name in ("99999999-999999-x", "notes"):
        record.begin(tmp_path, replace(FLIGHTS, run=name))
    assert record.new_id(tmp_path, "0a1b", NOON) == "20261120-120000-0a1b"


@pytest.mark.parametrize(("hours", "expected"), [(-1, "12:00:07"), (1, "13:00:00")])
def test_a_run_never_ends_before_it_began(hours: int, expected: str) -> None:
    begun, at = NOON.isoformat(), NOON + timedelta(hours=hours)
    assert record.ended_at(begun, 7.0, at) == f"2026-11-20T{expected}.000+00:00"


def test_nothing_took_less_than_no_time() -> None:
    run = replace(FLIGHTS, state="running", started_at=NOON.isoformat())
    assert took_s(run, NOON - timedelta(hours=1)) == 0.0
    assert took_s(run, NOON + timedelta(hours=1)) == 3600.0
