"""Commands about what serves: status, rollback, fleet up, fleet down."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from slipway.bundle.format import short
from slipway.cli.project import (
    dry_run_option,
    find_root,
    fleet_option,
    json_option,
    say,
    show_json,
)
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from slipway.fleet.client import HostStatus, ModelStatus
    from slipway.fleet.inventory import Credentials, Fleet

TABLE_WIDTH = 240
"""Wider than any row: a narrow terminal wraps, and nothing is cut off."""


@click.command()
@fleet_option
@json_option
def status(fleet_name: str, as_json: bool) -> None:
    """Show what serves where, at which share, since when, and why.

    \b
      slipway status
      slipway status --fleet local --json
    """
    from slipway.fleet.client import HttpClient
    from slipway.fleet.inventory import load_fleet
    from slipway.fleet.status import read_status, status_document

    fleet = load_fleet(find_root(), fleet_name)
    statuses = read_status(fleet, HttpClient(fleet.credentials))
    if as_json:
        show_json(status_document(fleet, statuses))
    else:
        _show_table(fleet, statuses)


@click.command()
@click.argument("model", metavar="PIPELINE|MODEL")
@click.option("--fleet", "fleet_name", required=True, metavar="F", help="The fleet.")
@click.option("--why", default="", help="Your reason, for the ledger.")
@dry_run_option
@json_option
def rollback(model: str, fleet_name: str, why: str, dry_run: bool, as_json: bool) -> int:
    """Go back to the version that was stable before.

    What is taken back is rejected: it does not return with the next run. While a canary is
    answering, the candidate is taken back and the stable version stays.

    \b
      slipway rollback flights --fleet local --dry-run
      slipway rollback flights --fleet local --why "complaints about UA"
    """
    from slipway.fleet.controller import Controller
    from slipway.fleet.inventory import load_fleet
    from slipway.fleet.keys import find_keys
    from slipway.fleet.models import check_released
    from slipway.fleet.rollback import rollback as take_back
    from slipway.store.objects import Store

    root = find_root()
    fleet = load_fleet(root, fleet_name)
    check_released(root, model, Store(fleet.store), fleet.name)
    usable = _usable_credentials(fleet)
    controller = Controller.open(fleet, model, find_keys(root).release, say, credentials=usable)
    done = take_back(controller, dry_run=dry_run, why=why)
    if as_json:
        show_json(done.to_dict())
        return 0 if done.ok else 1
    click.echo(f"{'would be done: ' if dry_run else ''}{done.reason}")
    for name, what in done.hosts.items():
        click.echo(f"  host {name}: {what}")
    return 0 if done.ok else 1


def _usable_credentials(fleet: "Fleet") -> "Credentials":
    """Return the fleet's credentials, or none: a rollback is written without asking any host."""
    from slipway.fleet.credentials import check
    from slipway.fleet.inventory import NO_CREDENTIALS

    try:
        check(fleet.credentials)
    except SlipwayError as error:
        say(f"{error}. The hosts are asked without credentials; the rollback itself needs none")
        return NO_CREDENTIALS
    return fleet.credentials


@click.group()
def fleet() -> None:
    """Start or stop the hosts of a local fleet."""


@fleet.command()
@click.argument("fleet_name", metavar="F")
def up(fleet_name: str) -> None:
    """Start the hosts that do not run yet, and wait until they serve what they should.

    They outlive this command; what they serve is in the channel.

    \b
      slipway fleet up local
    """
    from slipway.fleet.client import HttpClient
    from slipway.fleet.inventory import load_fleet
    from slipway.fleet.keys import ensure_local_keys
    from slipway.fleet.launch.launcher import wait_until_ready
    from slipway.fleet.launch.local import LOCAL
    from slipway.store.channel import models
    from slipway.store.objects import Store

    root = find_root()
    fleet = load_fleet(root, fleet_name)
    ensure_local_keys(root, fleet)
    client = HttpClient(fleet.credentials)
    started = LOCAL.up(fleet, client, say)
    for host in fleet.hosts:
        how = "started" if host.name in started else "was running"
        click.echo(f"host {host.name}: {host.url} ({how})")
    if models(Store(fleet.store), fleet.name) and (late := wait_until_ready(fleet, client)):
        names = ", ".join(late)
        raise SlipwayError(f"not ready: {names}; `slipway status` and their logs say why")


@fleet.command()
@click.argument("fleet_name", metavar="F")
def down(fleet_name: str) -> None:
    """Stop the hosts; each finishes the requests it accepted.

    \b
      slipway fleet down local
    """
    from slipway.fleet.inventory import load_fleet
    from slipway.fleet.launch.local import LOCAL

    fleet = load_fleet(find_root(), fleet_name)
    stopped = LOCAL.down(fleet, say)
    click.echo(f"{len(stopped)} hosts stopped" if stopped else "no host was running")


def _show_table(fleet: "Fleet", statuses: Mapping[str, "HostStatus | None"]) -> None:
    """Draw one row per host and model, then the reasons."""
    from rich.console import Console
    from rich.table import Table

    columns = ("host", "url", "ready", "model", "stable", "candidate", "share", "since (UTC)")
    table = Table(*columns, box=None, pad_edge=False)
    reasons: dict[str, list[str]] = {}
    for host in fleet.hosts:
        found = statuses[host.name]
        ready = "down" if found is None else "yes" if found.ready else "no"
        models = found.models if found is not None else {}
        if found is not None and found.problem is not None:
            reasons.setdefault(found.problem, []).append(host.name)
        for name, model in models.items():
            table.add_row(host.name, host.url, ready, name, *_cells(model))
            for reason in _reasons(name, model):
                reasons.setdefault(reason, []).append(host.name)
        if not models:
            table.add_row(host.name, host.url, ready, *["-"] * 5)
    Console(markup=False, highlight=False, width=TABLE_WIDTH).print(table)
    for reason, hosts in reasons.items():
        click.echo(f"{', '.join(hosts)}: {reason}")


def _cells(model: "ModelStatus") -> tuple[str, str, str, str]:
    stable = short(model.stable) if model.stable else "-"
    candidate = short(model.candidate) if model.candidate else "-"
    share = f"{model.percent} %" if model.candidate else "-"
    return stable, candidate, share, (model.since or "-").partition("+")[0]


def _reasons(name: str, model: "ModelStatus") -> list[str]:
    refused = [
        f"{name} v{short(v)} {'could not be tried' if v in model.untried else 'refused'}: {why}"
        for v, why in model.refused.items()
    ]
    if model.trouble:
        refused.append(f"{name}: {model.trouble}")
    alarms = [f"{name} ALARM: {alarm}" for alarm in model.alarms]
    return [*alarms, *refused, f"{name}: {model.reason}"]
