"""End a run whose Prefect server is gone: its work is done, and there is nobody to be told.

Prefect would propose the end for two minutes, then send each event and log line that is left for
ten seconds more, and end the process with tracebacks and exit code 1. The record of the run has
all of it. The server takes the run for one that goes on until `slipway worker`, `slipway run` or
`slipway doctor --fix` tells it.

Prefect reads its settings when it is imported, which this module does.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Failed

from flows.talk import fail
from slipway.errors import SlipwayError

TRIES, PAUSE_S = 3, 2.0
"""A server that is started anew comes back later than this, and no run waits for it."""

BAD_GATEWAY = 502
"""From here on, what answers is a proxy before a server that does not."""

Leave = Callable[[int], object]

Ended = dict[str, Any] | State[Any]


def tell(ended: dict[str, Any] | SlipwayError, leave: Leave = os._exit) -> Ended:
    """Return what Prefect is told of a run; end this process where no server is there for that.

    An error is a state, not an exception: its message is what people are to see, not a traceback.
    """
    error = ended if isinstance(ended, SlipwayError) else None
    if problem := server_gone():
        if error is not None:
            fail(str(error))
        print(f"{problem}: it could not be told how this run ended", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        leave(error.exit_code if error is not None else 0)
    if isinstance(ended, SlipwayError):
        return Failed(message=str(ended), data=ended)
    return ended


def server_gone() -> str | None:
    """Say that the server is gone, if it is and does not come back at once."""
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(sync_client=True) as client,
    ):
        for _ in range(TRIES - 1):
            if _answers(client):
                return None
            time.sleep(PAUSE_S)
        return None if _answers(client) else f"the Prefect server at {client.api_url} is gone"


def _answers(client: SyncPrefectClient) -> bool:
    problem = client.api_healthcheck()
    if isinstance(problem, httpx.HTTPStatusError):
        return problem.response.status_code < BAD_GATEWAY
    return problem is None
