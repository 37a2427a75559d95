"""Commands about what a Prefect server knows of this project: deployments apply, check."""

import click

from slipway.cli.project import find_root, json_option, run_flow

server_option = click.option(
    "--server", metavar="URL", help="The Prefect server's API; PREFECT_API_URL if left out."
)


@click.group()
def deployments() -> None:
    """Register schedules, triggers and automations on a Prefect server.

    What they are is declared in prefect.yaml, and in configs/pools/ what workers start.

    \b
      slipway deployments apply
      slipway deployments check
    """


@deployments.command()
@server_option
def apply(server: str | None) -> int:
    """Bring a server to what prefect.yaml declares; say what was different.

    Makes the work pools that prefect.yaml names as configs/pools/ describes them, the
    deployments with their schedules and triggers, and the automation that marks runs Crashed
    whose heartbeats have stopped. What is there is brought to what is declared; a pool of another
    type is refused. Parameters that a flow does not have are refused from then on. It may be
    run again at any time.

    \b
      slipway deployments apply
      slipway deployments apply --server http://127.0.0.1:4200/api
    """
    options = ["--server", server] if server else []
    return run_flow(find_root(), "flows.commands.deployments", "apply", *options)


@deployments.command()
@server_option
@json_option
def check(server: str | None, as_json: bool) -> int:
    """Say how a server differs from prefect.yaml and configs/pools/; exit with 1 if it does.

    \b
      slipway deployments check
      slipway deployments check --json
    """
    options = ["--server", server] if server else []
    options += ["--json"] if as_json else []
    return run_flow(find_root(), "flows.commands.deployments", "check", *options)
