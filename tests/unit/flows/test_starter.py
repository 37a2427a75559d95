"""Who started a flow run is told from its deployment."""

from uuid import UUID

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.starter import started_by, starter
from slipway.runs.record import at_terminal
from slipway.runs.run import StartedBy

ID = UUID("0198c0de-0000-7000-8000-000000000001")
DEPLOYMENT = UUID("0198c0de-0000-7000-8000-000000000002")


@pytest.mark.parametrize(("by_schedule", "kind"), [(True, "schedule"), (False, "trigger")])
def test_a_deployment_runs_by_its_schedule_or_was_triggered(by_schedule: bool, kind: str) -> None:
    run = FlowRun(id=ID, flow_id=ID, deployment_id=DEPLOYMENT, auto_scheduled=by_schedule)
    assert started_by(run, "nightly") == StartedBy(kind, f"deployment nightly, flow run {ID}")
    assert str(DEPLOYMENT) in started_by(run, None).who


def test_without_a_deployment_a_person_started_it() -> None:
    assert started_by(FlowRun(id=ID, flow_id=ID), None) == at_terminal()
    assert starter() == at_terminal()
