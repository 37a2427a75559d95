"""Look whether a pipeline's sources changed, and say so as an event that starts a run.

The deployment `watch` runs this on a schedule; `on-new-data` is triggered by the event. The pin
is that of the newest commit and of what runs released since, so new data is told of until a run
has taken it in.
"""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.alive import pid_files
from flows.checkout import results, worktrees
from flows.covering import cover_waiting
from flows.patience import patiently
from slipway.config import load_config
from slipway.errors import SlipwayError
from tasks.sources import find_changed

CHANGED = "slipway.sources.changed"


@flow(flow_run_name="watch {pipeline}", persist_result=False)
def watch(pipeline: str) -> "bool | State[Any]":
    """Emit an event if a source is not what its pin says; return whether one was."""
    root = Path.cwd()
    pid_files.hold(root, flow_run.id)
    tree = worktrees.find(root)
    try:
        cover_waiting(flow_run.id, "watch", print)
        sources = load_config(root, pipeline).ingest.sources
        changed = patiently(lambda: find_changed(root, pipeline, sources), print)
    except SlipwayError as error:
        return Failed(message=str(error), data=error)
    finally:
        results.clear_away(tree)
    if changed:
        emit_event(CHANGED, resource=resource(pipeline), payload={"sources": changed})
    return bool(changed)


def resource(pipeline: str) -> dict[str, str]:
    """Name a pipeline as events do."""
    return {
        "prefect.resource.id": f"slipway.pipeline.{pipeline}",
        "prefect.resource.name": pipeline,
    }
