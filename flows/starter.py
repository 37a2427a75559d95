"""Say who started a flow run: a person at a terminal, a schedule, or another trigger."""

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.runtime import deployment

from slipway.runs.record import at_terminal
from slipway.runs.run import StartedBy


def starter() -> StartedBy:
    """Ask Prefect for the deployment behind the flow run that this process is in."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return started_by(run, deployment.name if run is not None else None)


def started_by(run: FlowRun | None, deployment_name: str | None) -> StartedBy:
    """Judge by the deployment: without one, a person started the run.

    What a deployment runs otherwise than by its schedule was triggered: by an automation, by
    `prefect deployment run`, or in Prefect's pages.
    """
    if run is None or run.deployment_id is None:
        return at_terminal()
    kind = "schedule" if run.auto_scheduled else "trigger"
    return StartedBy(kind, f"deployment {deployment_name or run.deployment_id}, flow run {run.id}")
