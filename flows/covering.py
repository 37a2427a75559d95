"""Let one run answer for every trigger that came before it began.

Two events within a minute, or five while a long run held its place, ask for the same thing: that
what is there now be delivered. The run that begins next does so. What waits with the same
parameters, and was asked for before, has nothing left to do.
"""

from collections.abc import Callable, Sequence
from datetime import UTC
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled
from prefect.types import DateTime

Say = Callable[[str], None]

COVERED = "Covered"
"""The state's name, by which people see that nothing was lost."""

AT_ONCE = 200


def cover_waiting(flow_run: str | None, flow: str, say: Say) -> list[str]:
    """End the runs that this one answers for; return their ids. Without Prefect there are none.

    To be called before a run looks at anything. A run that is due later, by its schedule, is
    left: it will find what is new then.
    """
    if flow_run is None:
        return []
    with get_client(sync_client=True) as client:
        own = client.read_flow_run(UUID(flow_run))
        covered = answered_by(own, _waiting(client, flow))
        for run in covered:
            why = f"run {own.name} ({own.id}) began after this one was asked for, and does it"
            client.set_flow_run_state(run.id, Cancelled(name=COVERED, message=why))
    if covered:
        say(f"{len(covered)} triggers that came before are answered by this run")
    return [str(run.id) for run in covered]


def _waiting(client: SyncPrefectClient, flow: str) -> list[FlowRun]:
    waiting = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    due = FlowRunFilterExpectedStartTime(before_=DateTime.now(UTC))
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
        flow_run_filter=FlowRunFilter(state=waiting, expected_start_time=due),
        limit=AT_ONCE,
    )


def answered_by(own: FlowRun, waiting: Sequence[FlowRun]) -> list[FlowRun]:
    """Return the runs that ask for what this one does: only a deployment's run answers for others.

    One from a desk works in the tree that somebody edits, and not from a commit.
    """
    if own.deployment_id is None:
        return []
    return [run for run in waiting if run.id != own.id and run.parameters == own.parameters]
