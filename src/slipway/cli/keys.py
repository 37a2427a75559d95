"""Commands about the API keys of a host: keys add, keys list, keys revoke."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from slipway.cli.project import json_option, say, show_json

DAYS = re.compile(r"([1-9][0-9]{0,4})d")
SCOPES = ("infer", "metadata", "metrics", "admin")

file_option = click.option(
    "--file",
    "path",
    required=True,
    metavar="F",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file that hosts are given as --api-keys.",
)
name_option = click.option("--name", required=True, metavar="N", help="The key's name.")


def _moment(context: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Read `90d`, `2027-06-30` (in UTC) or a full ISO 8601 time."""
    if value is None:
        return None
    if days := DAYS.fullmatch(value):
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=int(days[1]))
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"expected days such as 90d, or a date such as 2027-06-30; got {value!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.group()
def keys() -> None:
    """Make and revoke the API keys that hosts accept.

    Running hosts take up a change within about a second.

    \b
      slipway keys add --file api-keys.json --name shop --model flights --rate 100
      slipway keys list --file api-keys.json
      slipway keys revoke --file api-keys.json --name shop
    """


@keys.command()
@file_option
@name_option
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    default=("infer", "metadata"),
    show_default=True,
    help="What it may ask for; repeat for several.",
)
@click.option("--model", "models", multiple=True, help="A model it may ask; none: every one.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Rows per second.")
@click.option("--burst", type=click.IntRange(1), help="Rows at once; needs --rate.")
@click.option("--quota", type=click.IntRange(1), help="Rows per UTC day, on each host.")
@click.option(
    "--expires",
    metavar="WHEN",
    callback=_moment,
    help="90d, 2027-06-30 or a time; none: never.",
)
def add(
    path: Path,
    name: str,
    scopes: tuple[str, ...],
    models: tuple[str, ...],
    rate: float | None,
    burst: int | None,
    quota: int | None,
    expires: datetime | None,
) -> None:
    """Make a key and print its secret, which is kept nowhere.

    \b
      slipway keys add --file api-keys.json --name shop --model flights --rate 100
      slipway keys add --file api-keys.json --name prometheus --scope metrics --expires 90d
    """
    from pydantic import ValidationError

    from slipway.errors import ConfigError
    from slipway.host.guard.keys import ApiKey, add_key, digest, new_secret

    secret = new_secret()
    try:
        key = ApiKey.model_validate(
            {
                "id": name,
                "sha256": digest(secret.encode()),
                "scopes": tuple(dict.fromkeys(scopes)),
                "models": models or None,
                "rate_per_s": rate,
                "burst": burst,
                "quota_rows_per_day": quota,
                "expires": expires,
            }
        )
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'key'}: {e['msg']}" for e in error.errors()]
        raise ConfigError("the command line", problems) from None
    add_key(path, key)
    say(f"key {name!r} is in {path}; its secret is shown this once:")
    click.echo(secret)


@keys.command("list")
@file_option
@json_option
def show(path: Path, as_json: bool) -> None:
    """Show the keys and what each may do; their secrets are known to nobody here.

    \b
      slipway keys list --file api-keys.json
    """
    from slipway.host.guard.keys import read_keys

    found = [key.model_dump(mode="json", exclude={"sha256"}) for key in read_keys(path)]
    if as_json:
        show_json(found)
        return
    for key in found:
        fields = [f"{name}={_word(value)}" for name, value in key.items() if name != "id"]
        click.echo(f"{key['id']}  {'  '.join(fields)}")
    say(f"{len(found)} key{'s' if len(found) != 1 else ''}")


@keys.command()
@file_option
@name_option
def revoke(path: Path, name: str) -> None:
    """Take a key away; running hosts refuse it within about a second.

    \b
      slipway keys revoke --file api-keys.json --name shop
    """
    from slipway.host.guard.keys import revoke_key

    revoke_key(path, name)
    say(f"key {name!r} is revoked")


def _word(value: object) -> str:
    if value is None:
        return "-"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
