"""Commands that look at one bundle: verify, trace."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipway.bundle.format import short
from slipway.cli.project import find_root, fleet_option, json_option, run_flow, show_json

if TYPE_CHECKING:
    from slipway.fleet.trace import VersionTrace

INDENT = "  "

IN_JSON_ONLY = ("dvc_lock", "toolchain")
"""Parts of the lineage that are for machines: hashes of every out, versions of every package."""


@click.command()
@click.argument(
    "path", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--all", "everything", is_flag=True, help="Look through all that the project holds.")
@click.option("--heal", is_flag=True, help="With --all: mend what can be mended from here.")
@click.option("--remote", is_flag=True, help="With --all: read all of DVC's default remote, too.")
@click.option(
    "--trusted-keys",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with builder/*.pub; those of the local fleet if left out.",
)
@click.option("--threads", default=1, show_default=True, help="CPU threads of the session.")
@json_option
def verify(
    path: Path | None,
    everything: bool,
    heal: bool,
    remote: bool,
    trusted_keys: Path | None,
    threads: int,
    as_json: bool,
) -> int:
    """Check a bundle as a host would: files, signature, proof, golden set on this machine.

    With --all, look instead through everything that this project holds for bytes that are no
    longer those that were written: DVC's cache, dvc.lock, outputs, checkpoints, records of runs,
    the bundles, channels and ledgers of its fleets' stores, and the copies that hosts of this
    machine keep. Each damage comes with what heals it; --heal does that, and says what is left.
    With --remote, all that lies in DVC's default remote is read, which may take long and cost
    money; what is damaged there comes from this machine's cache again. Exit code 1: damage is left.

    \b
      slipway verify .slipway/store/bundles/flights/3f9a...
      slipway verify ./bundle --trusted-keys ./trusted_keys
      slipway verify --all
      slipway verify --all --heal
      slipway verify --all --heal --remote
    """
    if everything == (path is not None):
        raise click.UsageError("give the PATH of a bundle, or --all for the whole project")
    if path is None:
        asked = {"--heal": heal, "--remote": remote, "--json": as_json}
        options = [name for name, wanted in asked.items() if wanted]
        return run_flow(find_root(), "flows.commands.verify", *options)
    if heal or remote:
        raise click.UsageError("--heal and --remote go with --all; one bundle cannot be mended")
    _verify_bundle(path, trusted_keys, threads, as_json)
    return 0


def _verify_bundle(path: Path, trusted_keys: Path | None, threads: int, as_json: bool) -> None:
    """Check one bundle and say what a host here would do with it."""
    from slipway.bundle.session import open_session
    from slipway.bundle.signing import TrustedKeys
    from slipway.bundle.verify import check_here, verify_bundle
    from slipway.fleet.inventory import load_fleet

    folder = trusted_keys or load_fleet(find_root(), "local").trusted_keys
    bundle = verify_bundle(path, TrustedKeys.load(folder))
    provider = bundle.contract.requires.provider
    session = open_session(bundle.model, provider, threads)
    result = check_here(bundle, session)
    if as_json:
        show_json(
            {
                "model": bundle.manifest.name,
                "version": bundle.manifest.version,
                "key_id": bundle.key_id,
                "provider": provider,
                "golden_rows": result.rows,
                "largest": result.largest,
                "tolerance": result.tolerance,
            }
        )
        return
    size = sum(file.bytes for file in bundle.manifest.files.values())
    lines = [
        f"files      {len(bundle.manifest.files)} listed, {size:,} bytes, nothing extra",
        f"signature  by builder key {short(bundle.key_id)}, trusted in {folder}",
        f"proof      pass, {bundle.contract.precision} on {provider}",
        *(f"proves     {line}" for line in [bundle.proof.get("proves")] if line),
        *(
            f"golden     {result.rows} rows run here: {name} within {largest:.2g} of the proven"
            f" answers, tolerance {result.tolerance[name]:.2g}"
            for name, largest in result.largest.items()
        ),
        f"a host here would load v{short(bundle.manifest.version)} of {bundle.manifest.name}",
    ]
    click.echo("\n".join(lines))


@click.command()
@click.argument("version")
@fleet_option
@json_option
def trace(version: str, fleet_name: str, as_json: bool) -> None:
    """Lead from a version back to data, config, commit, numbers and release decisions.

    Every answer carries its version (model_version, and the Slipway-Version header); 12 hex
    digits of it are enough. The id of a request leads to its version where the host wrote it
    down: --access-log and --capture of `slipway host` keep both.

    \b
      slipway trace 3f9a0c12d4e5
    """
    from slipway.fleet.inventory import load_fleet
    from slipway.fleet.trace import trace as follow
    from slipway.store.objects import Store

    fleet = load_fleet(find_root(), fleet_name)
    found = follow(fleet, Store(fleet.store), version)
    if as_json:
        show_json(found.to_dict())
    else:
        _show(found)


def _show(found: "VersionTrace") -> None:
    """Write what leads back to the origin first, then how it did, the long config last."""
    lineage = found.lineage
    click.echo(f"{found.model} {found.version}")
    click.echo(f"signed by builder key {short(found.signed_by)}, checked just now")
    _show_mapping({key: lineage[key] for key in lineage if key not in (*IN_JSON_ONLY, "config")}, 0)
    click.echo("gates")
    for gate in found.proof.get("gates", []):
        click.echo(
            f"{INDENT}{gate['precision']:13} {gate['gate']:28} {_number(gate.get('measured'))}"
            f" (limit {_number(gate.get('limit'))}) {gate['verdict']}"
        )
    _show_mapping({key: lineage[key] for key in ("config",) if key in lineage}, 0)
    click.echo("release decisions" if found.ledger else "release decisions: none on this fleet")
    for entry in found.ledger:
        line = f"{entry['at']} {entry['decision']} v{short(entry['version'])}: {entry['reason']}"
        click.echo(f"{INDENT}{line}")
    click.echo(f"with --json also: {', '.join(key for key in IN_JSON_ONLY if key in lineage)}")


def _show_mapping(value: Mapping[str, Any], depth: int) -> None:
    """Write nested facts, one per line."""
    for key, part in value.items():
        if isinstance(part, Mapping) and part:
            click.echo(f"{INDENT * depth}{key}")
            _show_mapping(part, depth + 1)
        elif isinstance(part, list) and part and isinstance(part[0], Mapping):
            click.echo(f"{INDENT * depth}{key}")
            for item in part:
                click.echo(f"{INDENT * (depth + 1)}{_on_one_line(item)}")
        else:
            click.echo(f"{INDENT * depth}{key}: {_on_one_line(part)}")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _on_one_line(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_on_one_line(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_on_one_line, value))
    return " ".join(str(value).split())
