"""What a run says: a stage's own message, progress, the record, the summary."""

import errno
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows import closing, publish, summary
from flows.dag.build import exit_seen, message_of
from flows.environment import WORKSPACE, apply, of_stage
from flows.talk import Talk
from slipway.errors import SlipwayError
from slipway.runs import record
from slipway.runs.attempt import RUN
from slipway.runs.run import GateResult, Run, StageOutcome
from tests.bundles import make_payload

LOG = Path("train.log")
FLIGHTS = Run(pipeline="flights")


def talk(terminal: bool = False) -> tuple[Talk, io.StringIO]:
    """Return a commentary and where it goes."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, highlight=False)
    return Talk(console), out


def progress(done: int, total: int = 100, **numbers: Any) -> str:
    event = {"label": "train", "done": done, "total": total, **numbers}
    return json.dumps({"progress": event})


def test_the_message_of_a_failed_stage_is_the_last_one_it_gave_itself() -> None:
    lines = [
        "Running stage 'train@flights':",
        "slipway: something minor",
        "slipway: configs/flights.yaml has 2 problems:",
        "  train.epochs: must be greater than 0",
        "  train.seed: missing",
        "ERROR: failed to reproduce 'train@flights': failed to run: python -m tasks",
    ]
    assert message_of("train", lines, LOG) == (
        "configs/flights.yaml has 2 problems:\n"
        "  train.epochs: must be greater than 0\n"
        "  train.seed: missing\n"
        "  (train; its log: train.log)"
    )


def test_a_stage_that_crashed_is_quoted_by_the_end_of_its_log() -> None:
    lines = [*map(str, range(50)), "Segmentation fault", "ERROR: failed to reproduce 'train'"]
    message = message_of("train", lines, LOG)
    assert message.startswith("train failed; its log (train.log) ends with:\n  32\n")
    assert message.endswith("Segmentation fault\n  ERROR: failed to reproduce 'train'")


def test_away_from_a_terminal_a_long_stage_speaks_at_each_tenth() -> None:
    commentary, out = talk()
    with commentary.live(), commentary.stage("train") as stage:
        heard = [stage.heard(progress(done, loss=0.5)) for done in range(1, 101)]
    assert all(heard)
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "  train 10/100  loss 0.5000"


def test_on_a_terminal_progress_moves_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")  # CI's own may be dumb, or none
    commentary, out = talk(terminal=True)
    with commentary.live(), commentary.stage("train") as stage:
        assert stage.heard(progress(50, loss=0.25))
        commentary._bars.refresh()
        stage.done("ran")
    assert "50/100  loss 0.2500" in out.getvalue()
    assert "✓" in out.getvalue()


@pytest.mark.parametrize(
    "line", ["plain", '{"progress": 3}', '{"progress": {"done": "x"}}', '{"progress', "{}"]
)
def test_what_is_no_progress_event_is_an_ordinary_line(line: str) -> None:
    commentary, _ = talk()
    with commentary.stage("train") as stage:
        assert not stage.heard(line)


def test_brackets_in_a_message_are_not_taken_for_markup() -> None:
    commentary, out = talk()
    commentary.say("got [red]12[/] of [/work]")
    assert out.getvalue() == "got [red]12[/] of [/work]\n"


def test_the_record_of_a_killed_run_is_closed_by_the_next(tmp_path: Path) -> None:
    killed = record.begin(tmp_path, Run(pipeline="flights", fleet="local"))
    ran = StageOutcome("ingest@flights", "ran", seconds=1.0)
    killed.note_stages((ran,))
    killed.note_stages((ran, StageOutcome("train@flights", "running", started_at=record.now())))
    found = record.find_killed(tmp_path)
    assert found is not None
    closing.finish(found, "interrupted", "killed before it was done", pytest.fail)
    written = json.loads((killed.folder / "run.json").read_text())
    assert written["state"] == "interrupted"
    assert [stage["state"] for stage in written["stages"]] == ["ran", "stopped"]
    assert killed.report.is_file()
    assert record.find_killed(tmp_path) is None


def test_a_report_that_cannot_be_written_costs_only_itself(tmp_path: Path) -> None:
    entry = record.begin(tmp_path, FLIGHTS)
    entry.report.mkdir()
    said: list[str] = []
    closing.finish(entry, "completed", None, said.append)
    assert json.loads((entry.folder / "run.json").read_text())["state"] == "completed"
    assert said[0].startswith("the report could not be written: ")


def test_the_gate_table_shows_every_gate_and_the_chosen_precision_first() -> None:
    floor = GateResult("auc_floor", 0.68, 0.63, "min", verdict="pass", precision="fp32")
    failed = replace(floor, bound="max", verdict="fail", precision="int8-static")
    table = summary.gate_table([floor, failed], "int8-static")
    assert table.splitlines() == [
        "precision    gate       measured  limit   verdict",
        "-" * 49,
        "int8-static  auc floor  0.68      ≤ 0.63  fail",
        "fp32         auc floor  0.68      ≥ 0.63  pass",
    ]


def test_the_curl_command_carries_the_first_golden_row(tmp_path: Path) -> None:
    make_payload(tmp_path)
    body = summary.golden_request(tmp_path)
    inputs = {tensor["name"]: tensor["data"] for tensor in json.loads(body)["inputs"]}
    assert inputs == {"carrier": ["AA"], "delay": [None]}
    assert summary.curl("http://127.0.0.1:1/v2", b'{"it\'s": 1}') == (
        "curl -s http://127.0.0.1:1/v2 -H 'Content-Type: application/json' -d '{\"it'\"'\"'s\": 1}'"
    )


def test_a_full_disk_while_the_bundle_is_put_together_is_told(tmp_path: Path) -> None:
    (tmp_path / ".slipway").mkdir()

    def fill() -> None:
        with publish._scratch(tmp_path) as bundle:
            (bundle / "model.onnx").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SlipwayError, match=r"no space left .* nothing was published"):
        fill()
    assert list((tmp_path / ".slipway").iterdir()) == []


def test_telemetry_is_off_and_what_the_user_set_stays(tmp_path: Path) -> None:
    env = {"PREFECT_HOME": str(tmp_path / "mine"), "DVC_NO_ANALYTICS": "0", "no_proxy": "a.b"}
    apply(tmp_path, env)
    assert env["PREFECT_HOME"] == str(tmp_path / "mine")
    assert env["DVC_NO_ANALYTICS"] == env["DO_NOT_TRACK"] == "1"
    assert env["PREFECT_SERVER_ANALYTICS_ENABLED"] == env["GX_ANALYTICS_ENABLED"] == "false"
    assert env["no_proxy"] == "a.b,127.0.0.1,localhost"


def test_a_stage_gets_this_interpreter_and_nothing_of_prefect(tmp_path: Path) -> None:
    env = of_stage(tmp_path, {"PATH": "/bin", "PREFECT_API_URL": "http://x", "HOME": "/root"})
    assert env["PATH"].endswith("/bin:/bin")
    assert "PREFECT_API_URL" not in env
    assert env["HOME"] == "/root"
    assert env[WORKSPACE] == str(tmp_path / ".slipway")


def test_a_stage_is_told_its_own_run_and_no_other(tmp_path: Path) -> None:
    mine = of_stage(tmp_path, {RUN: "another"}, run="20261130-100000-aaaa")
    assert mine[RUN] == "20261130-100000-aaaa"
    assert RUN not in of_stage(tmp_path, {RUN: "another"})


@pytest.mark.parametrize(
    ("code", "words"), [(1, "exit code 1"), (-9, "killed by SIGKILL"), (139, "killed by SIGSEGV")]
)
def test_how_a_stage_ended_that_could_not_say_so_is_taken_from_dvc(code: int, words: str) -> None:
    command = "failed to run: python -m tasks train flights"
    line = f"ERROR: failed to reproduce 'train@flights': {command}, exited with {code}"
    assert exit_seen(["Running stage", line]) == words
    assert exit_seen(["Running stage"]) is None
