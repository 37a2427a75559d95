"""Release a published version on a fleet, by way of a canary.

The last step of `deliver` on its own: for a version that was built before, for another
fleet, or from a trigger. The decisions are in `slipway.fleet`.
"""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.alive import pid_files
from flows.promotion import bring
from slipway.errors import SlipwayError


@flow(flow_run_name="release {pipeline} on {fleet}", persist_result=False)
def release(
    pipeline: str,
    fleet: str = "local",
    version: str | None = None,
    limits: Path | None = None,
) -> "dict[str, Any] | State[Any]":
    """Bring a published version to stable; without a version, the one built last.

    `limits` is a file that says how a model without a pipeline is judged.
    """
    pid_files.hold(Path.cwd(), flow_run.id)
    try:
        done = bring(Path.cwd(), pipeline, fleet, version, limits=limits, run_id=flow_run.id)
    except SlipwayError as error:
        # a state, not an exception: its message is what people are to see, not a traceback
        return Failed(message=str(error), data=error)
    if not done.ok:
        return Failed(message=f"not released: {done.reason}", data=done.to_dict())
    return done.to_dict()
