"""Ask Prefect's server for the flow runs that are not over, and tell it which are dead.

Prefect reads its settings when it is imported, which this module does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import objects
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import PrefectException
from prefect.states import Cancelled, Completed, Crashed, Failed

from flows.alive.liveness import FlowRun
from slipway.errors import SlipwayError, Unavailable

AT_ONCE = 100
"""Runs asked for in one request; the server's own limit is 200."""

NOT_OVER = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
"""States that somebody must end. Scheduled and paused runs have no process to lose."""

WORKER_LABEL = "prefect.worker.name"
"""Where Prefect's worker leaves its name, just after it has taken a run."""


class FlowRuns:
    """The flow runs of one Prefect server."""

    def __init__(self, client: SyncPrefectClient) -> None:
        """Take a client that is connected."""
        self._client = client

    def by_id(self, ids: list[str]) -> tuple[list[FlowRun], set[str]]:
        """Return those of these runs that are not over, and the ids of those that are.

        One that this server does not know is neither: it may be another server's.
        """
        found: list[objects.FlowRun] = []
        for i in range(0, len(ids), AT_ONCE):
            wanted = FlowRunFilterId(any_=[UUID(flow_run) for flow_run in ids[i : i + AT_ONCE]])
            found += self._client.read_flow_runs(flow_run_filter=FlowRunFilter(id=wanted))
        over = {str(run.id) for run in found if run.state is not None and run.state.is_final()}
        return [_flow_run(run) for run in found if run.state_type in NOT_OVER], over

    def in_pool(self, pool: str) -> list[FlowRun]:
        """Return all runs that hold a place in a work pool."""
        types = FlowRunFilterStateType(any_=list(NOT_OVER))
        found: list[objects.FlowRun] = []
        while len(found) % AT_ONCE == 0:
            page = self._client.read_flow_runs(
                flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=types)),
                work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
                limit=AT_ONCE,
                offset=len(found),
            )
            if not page:
                break
            found += page
        return [_flow_run(run) for run in found]

    def beats(self, pool: str) -> dict[str, datetime]:
        """Return when each worker of a pool was last heard of; nothing for an unknown pool."""
        try:
            workers = self._client.read_workers_for_work_pool(pool)
        except httpx.HTTPStatusError as error:  # what this one method of Prefect 3.8 raises
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return {}
            raise
        return {w.name: w.last_heartbeat_time for w in workers if w.last_heartbeat_time}

    def end(self, run: FlowRun, why: str, ended: str | None = None) -> bool:
        """Say how a dead run ended; return whether it had not just ended by itself.

        As its own record says, else Crashed; Cancelled if that was under way, as Prefect takes
        nothing else after it.
        """
        kinds = {"completed": Completed, "failed": Failed}
        kind = kinds.get(ended or "", Crashed)
        if run.state == StateType.CANCELLING.value:
            kind = Cancelled
        state: State[None] = kind(message=why)
        # not by force: that would overwrite an end which came in the meantime
        answer = self._client.set_flow_run_state(UUID(run.id), state)
        return answer.status == SetStateStatus.ACCEPT


@contextmanager
def connect() -> Iterator[FlowRuns]:
    """Connect to the flow runs of the server that Prefect's settings name."""
    with client() as connected:
        yield FlowRuns(connected)


@contextmanager
def client() -> Iterator[SyncPrefectClient]:
    """Connect to the server that Prefect's settings name; its failures become ours."""
    with get_client(sync_client=True) as client:
        try:
            yield client
        except (httpx.HTTPError, PrefectException) as error:
            why = " ".join(str(error).split()) or type(error).__name__
            wrong = SlipwayError if _is_final(error) else Unavailable
            raise wrong(f"the Prefect server at {client.api_url} does not answer: {why}") from error


def _is_final(error: Exception) -> bool:
    """Tell an answer that will be the same next time (no permission, say) from no answer."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.is_client_error
    return isinstance(error, PrefectException)


def _flow_run(run: objects.FlowRun) -> FlowRun:
    assert run.state is not None
    worker = run.labels.get(WORKER_LABEL)
    return FlowRun(
        id=str(run.id),
        name=run.name,
        state=run.state.type.value,
        since=run.state.timestamp,
        pool=run.work_pool_name,
        worker=None if worker is None else str(worker),
    )
