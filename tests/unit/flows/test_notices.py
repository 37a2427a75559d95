import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows import closing, notices
from flows.notices import Lost
from slipway.errors import GateError, NotAccepted, SlipwayError
from slipway.notify.send import Post
from slipway.runs import record
from slipway.runs.record import Record
from slipway.runs.run import ReleaseResult, Run, StartedBy
from tests.receivers import Webhook, webhook

SCHEDULED = StartedBy("schedule", "deployment nightly, flow run 1")


@pytest.fixture
def hook(tmp_path: Path):
    with webhook() as received:
        write(tmp_path, received)
        yield received


def write(root: Path, received: Webhook, more: str = "") -> None:
    target = f"  - webhook: {{url: '{received.url}', style: plain}}\n"
    (root / "configs").mkdir(exist_ok=True)
    (root / "configs/notify.yaml").write_text(f"format: 1\n{more}targets:\n{target}")


def begin(root: Path, **facts: object) -> Record:
    return record.begin(root, replace(Run(pipeline="flights", started_by=SCHEDULED), **facts))


def written(entry: Record) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((entry.folder / "run.json").read_text())["notices"]
    return found


def test_people_are_told_once_of_a_run_that_failed_and_its_record_says_who(tmp_path, hook):
    entry, said = begin(tmp_path), []
    closing.finish(entry, "failed", "training diverged", said.append, reason="failed")
    notices.tell(entry, "failed", say=said.append)
    [body] = hook.bodies
    assert (body["reason"], body["pipeline"], body["run"]) == ("failed", "flights", entry.run.run)
    assert body["what"] == "training diverged"
    assert body["link"] == str(entry.report)
    assert [(n["reason"], n["sent"], n["tries"]) for n in written(entry)] == [("failed", True, 1)]
    assert "plain webhook at 127.0.0.1 was told" in said


def test_a_message_that_cannot_be_sent_is_said_and_noted_and_changes_nothing_else(tmp_path, hook):
    hook.statuses += [404]
    entry, said = begin(tmp_path), []
    closing.finish(entry, "failed", "why", said.append, reason="failed")
    assert entry.run.state == "failed"
    assert "plain webhook at 127.0.0.1 could not be told: it answered 404 Not Found" in said
    assert written(entry)[0]["problem"] == "it answered 404 Not Found"
    assert "s3cret" not in (entry.folder / "run.json").read_text() + "".join(said)


def test_a_target_is_told_only_of_what_it_wants(tmp_path, hook):
    write(tmp_path, hook)
    path = tmp_path / "configs/notify.yaml"
    path.write_text(f"{path.read_text()}    on: [crashed]\n")
    notices.tell(begin(tmp_path), "failed", say=pytest.fail)
    assert hook.bodies == []


@pytest.mark.parametrize("desk", [False, True])
def test_somebody_at_a_terminal_is_told_only_if_they_want_it(tmp_path, hook, monkeypatch, desk):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    write(tmp_path, hook, f"desk: {str(desk).lower()}\n")
    notices.tell(begin(tmp_path, started_by=StartedBy("terminal", "me")), "failed", say=print)
    assert len(hook.bodies) == desk


def test_a_run_that_died_is_told_of_once_with_or_without_a_record(tmp_path, hook):
    entry = begin(tmp_path, prefect_flow_run="0-1-2")
    found = record.find_flow_run(tmp_path, "0-1-2")
    assert found is not None
    lost = Lost("0-1-2", "deliver flights", "its process 7 is gone")
    for _ in range(2):
        notices.tell_crashed(found, tmp_path, lost, say=print)
    [body] = hook.bodies
    assert (body["reason"], body["run"]) == ("crashed", entry.run.run)
    assert body["what"] == "deliver flights died: its process 7 is gone"
    assert found.run.error is None, "how it ended is for the next run to note"
    assert [notice["reason"] for notice in written(found)] == ["crashed"]
    notices.tell_crashed(None, tmp_path, lost, say=print)
    assert len(hook.bodies) == 2
    assert record.find_flow_run(tmp_path, "9") is None


@pytest.mark.parametrize(
    ("error", "decision", "reason"),
    [
        (NotAccepted("x"), None, "waiting"),
        (GateError("x"), None, "failed"),
        (SlipwayError("x"), "rejected", "rejected"),
        (SlipwayError("x"), "promoted", "failed"),
        (SlipwayError("x"), "already serves", "failed"),
    ],
)
def test_what_happened_is_told_apart(error: Exception, decision: str | None, reason: str):
    release = ReleaseResult(decision=decision) if decision else None
    assert notices.reason_of(Run(release=release), error) == reason


def test_the_link_leads_to_a_server_that_stays():
    server = {"PREFECT_API_URL": "http://p:4200/api"}
    assert notices.page("1", server) == "http://p:4200/runs/flow-run/1"
    assert notices.page("1", server | {"PREFECT_UI_URL": "https://ui/"}) == (
        "https://ui/runs/flow-run/1"
    )
    assert notices.page("1", server | {"SLIPWAY_OWN_API": "1"}) is None
    assert notices.page(None, server) is None


def test_a_broken_config_at_the_end_of_a_run_is_only_said(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/notify.yaml").write_text("format: 2\ntargets: []\n")
    said: list[str] = []
    notices.tell(begin(tmp_path), "failed", Post(tmp_path), say=said.append)
    assert said[0].startswith("nobody was told: configs/notify.yaml has 2 problems:")
