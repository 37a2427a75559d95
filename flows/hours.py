"""Keep a deployment's runs to their pipeline's window: not begun outside of it, ended with it.

What a stage has done by then it saves, as it does when a run is cancelled. The run asks for another
of its deployment, due when the window opens; that goes on from there.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Scheduled

from slipway.errors import SlipwayError
from slipway.hours import Hours

PUT_OFF = "PutOff"
"""The name of such a run's state, by which people see that nothing was lost."""


class OutsideHours(SlipwayError):
    """A run may not work now, and is put off: no failure."""

    def __init__(self, window: Hours, now: datetime) -> None:
        """Say when it goes on, by the clock that the window is written in."""
        self.opens = window.opens(now)
        hours = f"{window.from_:%H:%M} to {window.to:%H:%M} ({window.timezone})"
        super().__init__(
            f"runs of deployments work from {hours}: put off until {self.opens:%Y-%m-%d %H:%M} UTC"
        )


def require_open(window: Hours | None, now: datetime) -> None:
    """Raise OutsideHours outside of the window."""
    if window is not None and window.closes(now) is None:
        raise OutsideHours(window, now)


@contextmanager
def ended_with(
    window: Hours | None, stop: Callable[[], None], is_done: Callable[[], bool]
) -> Iterator[None]:
    """Stop what runs when the window closes; raise OutsideHours then, unless it was done."""
    now = datetime.now(UTC)
    closes = window.closes(now) if window is not None else None
    if window is None or closes is None:
        yield
        return
    closed = threading.Event()

    def close() -> None:
        closed.set()
        stop()

    timer = threading.Timer((closes - now).total_seconds(), close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
    if closed.is_set() and not is_done():
        raise OutsideHours(window, datetime.now(UTC))


def put_off(flow_run: str, closed: OutsideHours) -> State[None]:
    """Have the same deployment run when the window opens; return the state of this run."""
    with get_client(sync_client=True) as client:
        own = client.read_flow_run(UUID(flow_run))
        if own.deployment_id is not None:
            once = f"{own.deployment_id} {own.parameters} {closed.opens.isoformat()}"
            ask = partial(
                client.create_flow_run_from_deployment,
                own.deployment_id,
                parameters=own.parameters,
                state=Scheduled(scheduled_time=closed.opens),
                name=f"{own.name} (put off)",
            )
            due = ask(idempotency_key=once)
            # asked twice, the server returns the first, though somebody may have cancelled that
            if due.id == own.id or (due.state is not None and due.state.is_final()):
                ask(idempotency_key=f"{once} {own.id}")
    return Cancelled(name=PUT_OFF, message=str(closed))
