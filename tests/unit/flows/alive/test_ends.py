"""A run whose process is gone ends as its record says, and people hear only of those that died."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.alive import reconcile
from flows.alive.liveness import Dead, FlowRun
from slipway.runs import record
from slipway.runs.run import Run, StartedBy
from tests.receivers import Webhook, webhook

FLOW_RUN = FlowRun("0-1-2", "deliver flights", "RUNNING", datetime.now(UTC), None, None)
DEAD = Dead(FLOW_RUN, "its process 7 is gone")
SCHEDULED = StartedBy("schedule", "deployment nightly")


class Server:
    """Takes every end that it is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str | None]] = []

    def end(self, run: FlowRun, why: str, ended: str | None = None) -> bool:
        self.ends.append((why, ended))
        return True


@pytest.fixture
def hook(tmp_path: Path):
    (tmp_path / "configs").mkdir()
    with webhook() as received:
        target = f"  - webhook: {{url: '{received.url}', style: plain}}\n"
        (tmp_path / "configs/notify.yaml").write_text(f"format: 1\ntargets:\n{target}")
        yield received


def end(root: Path, dead: Dead = DEAD, *, dry_run: bool = False) -> Server:
    server = Server()
    reconcile._end(root, server, dead, say=lambda _: None, dry_run=dry_run)
    return server


def begin(root: Path) -> record.Record:
    begun = Run(pipeline="flights", started_by=SCHEDULED, prefect_flow_run=FLOW_RUN.id)
    return record.begin(root, begun)


def reasons(hook: Webhook) -> list[str]:
    return [body["reason"] for body in hook.bodies]


@pytest.mark.parametrize(("state", "error"), [("completed", None), ("failed", "a gate")])
def test_a_run_that_could_not_tell_its_end_ends_as_its_record_says(tmp_path, hook, state, error):
    begin(tmp_path).close(state, error)
    ((why, ended),) = end(tmp_path).ends
    assert ended == state
    assert error is None or why == error
    assert reasons(hook) == []


def test_of_a_run_that_died_people_are_told(tmp_path, hook):
    begin(tmp_path)
    ((why, ended),) = end(tmp_path).ends
    assert ended is None
    assert why.startswith("its process 7 is gone; seen on ")
    assert reasons(hook) == ["crashed"]


def test_of_a_run_that_somebody_was_cancelling_nobody_is_told(tmp_path, hook):
    begin(tmp_path)
    end(tmp_path, Dead(replace(FLOW_RUN, state="CANCELLING"), "its process is gone"))
    assert reasons(hook) == []


def test_a_dry_run_tells_nobody(tmp_path, hook):
    begin(tmp_path)
    assert end(tmp_path, dry_run=True).ends == []
    assert reasons(hook) == []
