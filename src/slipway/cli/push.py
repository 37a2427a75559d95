"""The command that brings a finished bundle to a fleet: bundle push."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway.cli.project import find_root, json_option, show_json
from slipway.errors import BundleRefused

if TYPE_CHECKING:
    from slipway.bundle.verify import Verified
    from slipway.store.objects import Store


@click.command()
@click.argument(
    "folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--fleet", "fleet_name", required=True, metavar="F", help="The fleet.")
@json_option
def push(folder: Path, fleet_name: str, as_json: bool) -> None:
    """Check a bundle and publish it to a fleet's store, from where it can be released.

    Refused, before anything is written, if it is not whole or if no builder whom the fleet
    trusts has signed it. Nothing is served yet. A second push of the same version changes
    nothing but what is damaged in the store.

    \b
      slipway bundle push bundles/mlp --fleet local
      slipway release mlp --version 3f9a0c12d4e5 --fleet local
    """
    from slipway.bundle.format import short
    from slipway.fleet.inventory import load_fleet
    from slipway.fleet.keys import ensure_local_keys
    from slipway.store.bundles import upload_bundle
    from slipway.store.objects import Store

    root = find_root()
    fleet = load_fleet(root, fleet_name)
    ensure_local_keys(root, fleet)
    bundle = _check(folder, fleet.trusted_keys)
    model, version = bundle.manifest.name, bundle.manifest.version
    store = Store(fleet.store)
    new = upload_bundle(store, folder, model)
    if not new:
        bundle = _check_stored(store, model, version, fleet.trusted_keys)
    release = f"slipway release {model} --version {short(version)} --fleet {fleet_name}"
    if as_json:
        result = {"model": model, "version": version, "store": store.url, "new": new}
        show_json(result | {"signed_by": bundle.key_id, "release": release})
        return
    how = "is now in" if new else "was already in"
    click.echo(
        f"v{short(version)} of {model} {how} {store.url}, signed by builder {short(bundle.key_id)}"
    )
    click.echo(f"release it   {release}")


def _check(folder: Path, trusted: Path) -> "Verified":
    """Check a bundle as a host would before it runs it; say what to do about a signature."""
    from slipway.bundle.manifest import SIGNATURE
    from slipway.bundle.signing import TrustedKeys
    from slipway.bundle.verify import verify_bundle

    if not (folder / SIGNATURE).exists():
        raise BundleRefused(
            f"{folder}: {SIGNATURE} is missing; only signed bundles are published, and"
            " slipway bundle onnx signs those that it makes"
        )
    try:
        return verify_bundle(folder, TrustedKeys.load(trusted))
    except BundleRefused as refusal:
        if "trusted in this role" not in str(refusal):
            raise
        raise BundleRefused(
            f"{folder}: {refusal}. If you know whose key it is, let this fleet trust its public"
            f" half: install -D -m 644 KEY.pub {trusted / 'builder'}/KEY.pub"
        ) from None


def _check_stored(store: "Store", model: str, version: str, trusted: Path) -> "Verified":
    """Check the bundle that was there already: its signature stays, and may be another's."""
    from slipway.bundle.signing import TrustedKeys
    from slipway.bundle.verify import verify_bundle
    from slipway.store.bundles import download_bundle

    with tempfile.TemporaryDirectory(prefix="slipway-push-") as folder:
        into = download_bundle(store, model, version, Path(folder) / version)
        try:
            return verify_bundle(into, TrustedKeys.load(trusted))
        except BundleRefused as refusal:
            raise BundleRefused(
                f"store {store.url}: this version lies there already, and no host would load it:"
                f" {refusal}. Remove bundles/{model}/{version} from the store and push again"
            ) from None
