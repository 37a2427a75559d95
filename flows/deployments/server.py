"""Ask a Prefect server what it holds of a project, and bring it to what is declared.

Prefect reads its settings when it is imported, which this module does.
"""

import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Scheduled

from flows.deployments.compare import Found
from flows.deployments.declared import (
    POOLS,
    BaseJobTemplate,
    DeclaredDeployment,
    DeclaredPool,
    Project,
)
from flows.environment import HEARTBEAT_S
from slipway.errors import ConfigError, SlipwayError

DEAD = "slipway: runs without a heartbeat have crashed"
"""The automation's name, by which it is found again."""

SILENT_S = 3 * HEARTBEAT_S
"""How long a run may say nothing. Heartbeats come from a thread of the flow's process, which only
waits for stages: one that is silent for an hour, or keeps every core busy, does not silence it."""

PROCESS = "process"
"""The type of work pools that `slipway worker` serves."""

AT_ONCE = 200
"""The most runs that the server names in one answer."""

OVER = ("Completed", "Failed", "Crashed", "Cancelled")
RUN_EVENT = "prefect.flow-run"


def automations(flows: list[str]) -> dict[str, AutomationCore]:
    """Return the automations that a server needs for the runs of these flows, by name.

    A machine that loses its power says nothing: its runs would be Running for ever, and later
    ones Late behind them. The worker of that machine clears them when it starts again; where it
    does not, the server notices that their heartbeats have stopped.
    """
    trigger = EventTrigger(
        posture=Posture.Proactive,
        match={"prefect.resource.id": f"{RUN_EVENT}.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": flows},
        after={f"{RUN_EVENT}.heartbeat"},
        expect={f"{RUN_EVENT}.heartbeat", *(f"{RUN_EVENT}.{state}" for state in OVER)},
        for_each={"prefect.resource.id"},
        threshold=1,
        within=timedelta(seconds=SILENT_S),
    )
    crash = ChangeFlowRunState(
        name=None,
        force=False,
        state=StateType.CRASHED,
        message=f"no heartbeat for {SILENT_S} s: its machine or its process is gone",
    )
    dead = AutomationCore(
        name=DEAD,
        description="Registered by `slipway deployments apply`.",
        trigger=trigger,
        actions=[crash],
    )
    return {DEAD: dead}


def ask(client: SyncPrefectClient, project: Project) -> Found:
    """Return what a server holds of what is declared."""
    held = {}
    for wanted in project.deployments:
        try:
            held[wanted.full_name] = client.read_deployment_by_name(wanted.full_name)
        except ObjectNotFound:
            continue
    pools = {}
    for name in project.pools:
        try:
            pools[name] = client.read_work_pool(name)
        except ObjectNotFound:
            continue
    right = [
        name
        for name, wanted in automations(project.flows).items()
        if _is_right(client, name, wanted)
    ]
    paused = [f"deployment {name}" for name, found in held.items() if found.paused]
    paused += [f"work pool {name}" for name, found in pools.items() if found.is_paused]
    return Found(
        deployments={name: _declared(client, found) for name, found in held.items()},
        closed=frozenset(name for name, found in held.items() if _is_closed(found)),
        paused=frozenset(paused),
        pools={name: _declared_pool(found) for name, found in pools.items()},
        automations=frozenset(right),
        stranded=tuple(run.name for run in _stranded(client, held.values())),
    )


def require_pool(client: SyncPrefectClient, name: str) -> None:
    """Refuse a work pool that is not there, or that no worker of ours serves.

    Prefect's worker would make one that is missing, without limit and template.
    """
    where = client.api_url
    try:
        found = client.read_work_pool(name)
    except ObjectNotFound:
        problem = f"{where} has no work pool {name!r}; make it by: slipway deployments apply"
        raise ConfigError("the command line", [problem]) from None
    if found.type != PROCESS:
        problem = (
            f"work pool {name!r} is of type {found.type}, which Prefect's own worker serves:"
            f" pip install prefect-{found.type} && prefect worker start --pool {name}"
        )
        raise ConfigError("the command line", [problem])


def apply(client: SyncPrefectClient, root: Path, project: Project) -> None:
    """Register all that is declared; what is there is brought to it, whatever it was."""
    for name, pool in project.pools.items():
        _make_pool(client, name, pool)
    _deploy(root)
    for wanted in project.deployments:
        _close(client, client.read_deployment_by_name(wanted.full_name))
    _ask_again(client, project)
    for name, automation in automations(project.flows).items():
        if _is_right(client, name, automation):
            continue
        for old in client.read_automations_by_name(name):
            client.delete_automation(old.id)
        client.create_automation(automation)


def _make_pool(client: SyncPrefectClient, name: str, wanted: DeclaredPool) -> None:
    """Make a work pool, or bring the one that is there to what is declared."""
    template = wanted.base_job_template.model_dump()
    try:
        there = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=name,
                type=wanted.type,
                description=wanted.description,
                concurrency_limit=wanted.concurrency_limit,
                base_job_template=template,
            )
        )
        return
    if there.type != wanted.type:
        raise SlipwayError(
            f"work pool {name!r} on the server is of type {there.type}, which cannot be changed;"
            f" {POOLS / name}.yaml declares {wanted.type}. Take another name there and in"
            f" prefect.yaml, or, if nobody else uses it: prefect work-pool delete {name}"
        )
    if _declared_pool(there) != wanted:
        update = WorkPoolUpdate(
            description=wanted.description,
            concurrency_limit=wanted.concurrency_limit,
            base_job_template=template,
        )
        client.update_work_pool(name, update)


def _declared_pool(found: WorkPool) -> DeclaredPool:
    """Put what a server says of a work pool into the form of configs/pools."""
    template = found.base_job_template
    return DeclaredPool(
        format=1,
        type=found.type,
        description=found.description or "",
        concurrency_limit=found.concurrency_limit,
        base_job_template=BaseJobTemplate(
            job_configuration=template.get("job_configuration") or {},
            variables=template.get("variables") or {},
        ),
    )


def _stranded(
    client: SyncPrefectClient, deployments: Iterable[DeploymentResponse]
) -> list[FlowRun]:
    """Return the runs that wait in no work pool, as the server has it when theirs is deleted."""
    if not (ids := [found.id for found in deployments]):
        return []
    waiting = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            deployment_id=FlowRunFilterDeploymentId(any_=ids),
        ),
        limit=AT_ONCE,
    )
    return [run for run in waiting if run.work_pool_name is None and not run.auto_scheduled]


def _ask_again(client: SyncPrefectClient, project: Project) -> None:
    """Ask once more for runs whose work pool was deleted, where there is one again."""
    held = [client.read_deployment_by_name(wanted.full_name) for wanted in project.deployments]
    for run in _stranded(client, held):
        assert run.deployment_id is not None, "it was found by that"
        again = client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters=run.parameters,
            state=Scheduled(scheduled_time=run.next_scheduled_start_time),
            tags=run.tags,
            name=run.name,
        )
        why = f"its work pool was deleted; asked for again as {again.id}"
        state: State[None] = Cancelled(message=why)
        client.set_flow_run_state(run.id, state)


def _deploy(root: Path) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-10:])
        raise SlipwayError(f"`prefect deploy --all` failed:\n  {said}")


def _close(client: SyncPrefectClient, deployment: DeploymentResponse) -> None:
    """Have the server refuse a parameter that the flow does not have, when a run is asked for."""
    schema = dict(deployment.parameter_openapi_schema or {"type": "object", "properties": {}})
    if not _is_closed(deployment):
        closed = DeploymentUpdate(
            parameter_openapi_schema=schema | {"additionalProperties": False},
            enforce_parameter_schema=True,
        )
        client.update_deployment(deployment.id, closed)


def _is_closed(deployment: DeploymentResponse) -> bool:
    schema = deployment.parameter_openapi_schema or {}
    return schema.get("additionalProperties") is False and deployment.enforce_parameter_schema


def _is_right(client: SyncPrefectClient, name: str, wanted: AutomationCore) -> bool:
    found = client.read_automations_by_name(name)
    return len(found) == 1 and _core(found[0]) == _core(wanted)


def _core(automation: AutomationCore) -> dict[str, Any]:
    """Return what an automation does, without what the server added to it."""
    content = automation.model_dump(mode="json", include={"enabled", "trigger", "actions"})
    content["trigger"] = {
        key: sorted(value) if isinstance(value, list) else value
        for key, value in content["trigger"].items()
        if key != "id"
    }
    return content


def _plain(match: Any) -> dict[str, Any]:
    return dict(match if isinstance(match, dict) else match.model_dump())


def _declared(client: SyncPrefectClient, found: DeploymentResponse) -> DeclaredDeployment:
    """Put what a server says of a deployment into the form of prefect.yaml."""
    owner = f"prefect.deployment.{found.id}"
    triggers = [
        {
            "expect": sorted(automation.trigger.expect),
            "match": _plain(automation.trigger.match),
        }
        for automation in client.read_resource_related_automations(owner)
        if isinstance(automation.trigger, EventTrigger)
    ]
    limit = found.global_concurrency_limit
    options = found.concurrency_options
    strategy = options.collision_strategy.value if options else "ENQUEUE"  # which is Prefect's own
    return DeclaredDeployment.model_validate(
        {
            "name": found.name,
            "entrypoint": found.entrypoint,
            "parameters": found.parameters,
            "schedules": [
                {
                    "cron": entry.schedule.cron,
                    "timezone": entry.schedule.timezone or "UTC",
                    "active": entry.active,
                }
                for entry in found.schedules
                if isinstance(entry.schedule, CronSchedule)
            ],
            "triggers": triggers,
            "concurrency_limit": limit and {"limit": limit.limit, "collision_strategy": strategy},
            "work_pool": {
                "name": found.work_pool_name or "none",  # it was deleted
                "job_variables": found.job_variables or {},
            },
            "pull": found.pull_steps or [],
        }
    )
