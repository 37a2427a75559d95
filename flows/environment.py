"""What Prefect, DVC and their libraries are told by way of the environment.

Prefect reads its settings when it is imported, so a command applies these before that. What
the user has set stays: a Prefect server of one's own is `PREFECT_API_URL` and nothing else.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.runs.attempt import RUN
from slipway.state import repository_state

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

PREFECT_DEFAULTS = {
    # the default of 20 s is too short for a small machine under load
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # people read our lines on the terminal; Prefect's own log keeps everything
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
    # a log line from outside a run is no reason for a warning
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
}

HEARTBEAT_S = 30
"""Between two heartbeats of a flow run, which Prefect 3.8 sends every 180 s otherwise. What marks
silent runs Crashed (`flows.deployments`) counts on it, so it is no matter of taste."""

WORKSPACE = "SLIPWAY_WORKSPACE"
"""Set in all that runs supervised: how a later run knows what an earlier one left behind."""

OWN_API = "SLIPWAY_OWN_API"
"""Set in a process whose Prefect API server is there for this one run only."""

PROJECT, PYTHON = "SLIPWAY_PROJECT", "SLIPWAY_PYTHON"
"""Set by `slipway worker` in what it starts: the checkout it works for, and its interpreter."""

WORKER = "SLIPWAY_WORKER"
"""Set by `slipway worker` likewise: its process id, which Prefect's worker keeps."""

ELSEWHERE = "SLIPWAY_ELSEWHERE"
"""Set in a run that is no process of the worker's machine: where it works, in words. A fleet's
hosts are processes of one machine, so such a run builds and does not release."""

FLOW_RUN = "PREFECT__FLOW_RUN_ID"
"""Set by Prefect's worker in a process that it starts for a flow run, from its birth on. Stages
and hosts do not inherit it."""


def require_hosts_here(fleet: str, pipeline: str, env: Mapping[str, str] = os.environ) -> None:
    """Refuse a release, before anything is built, where a fleet's hosts cannot be started."""
    if where := env.get(ELSEWHERE):
        raise SlipwayError(
            f"this run works {where}, and the hosts of fleet {fleet} are processes of one machine:"
            " give its deployment `build_only: true` in prefect.yaml, and release where the hosts"
            f" are: slipway merge && slipway run {pipeline} --fleet {fleet}"
        )


def apply(root: Path, env: MutableMapping[str, str] = os.environ) -> None:
    """Turn telemetry off and keep Prefect's state inside the checkout."""
    be_discreet(env)
    beat(env)
    for name, value in PREFECT_DEFAULTS.items():
        env.setdefault(name, value)
    home = Path(env.setdefault("PREFECT_HOME", str(root / ".slipway/prefect")))
    home.mkdir(parents=True, exist_ok=True)  # Prefect itself makes the last folder only


def beat(env: MutableMapping[str, str] = os.environ) -> None:
    """Have the flow runs of this process, and of what it starts, send heartbeats in time."""
    env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] = str(HEARTBEAT_S)


def be_discreet(env: MutableMapping[str, str] = os.environ) -> None:
    """Turn telemetry off, and ask no proxy for what is on this machine."""
    env.update(TELEMETRY_OFF)
    for name in ("NO_PROXY", "no_proxy"):  # a proxy cannot reach the API server on this machine
        env[name] = ",".join(filter(None, [env.get(name), "127.0.0.1", "localhost"]))


def of_stage(
    root: Path, env: MutableMapping[str, str] = os.environ, run: str | None = None
) -> dict[str, str]:
    """Return the environment of a stage: this interpreter first on PATH, progress as JSON.

    `run` is the id of the run that it belongs to, for its runner to note beside.

    `python` in dvc.yaml must mean the interpreter that runs the flow, also where its
    environment is not activated.
    """
    stage = {n: v for n, v in env.items() if not n.startswith("PREFECT_") and n != RUN}
    bin_folder = str(Path(sys.executable).parent)
    path = env.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != bin_folder:
        path = bin_folder + os.pathsep + path
    ours = {
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
        "SLIPWAY_PROGRESS": "json",
        WORKSPACE: mark(root),
        **({RUN: run} if run else {}),
    }
    if (sources := root / "src").is_dir():  # of a worktree; what is installed may be another's
        ours["PYTHONPATH"] = os.pathsep.join(filter(None, [str(sources), env.get("PYTHONPATH")]))
    return stage | TELEMETRY_OFF | ours


def mark(root: Path) -> str:
    """Return what marks the processes of a run: its repository's state, as runs there take turns
    from whichever worktree.
    """
    return str(repository_state(root))
