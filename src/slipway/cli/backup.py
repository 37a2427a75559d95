"""Commands that keep what a project holds, bring it back, and clear what nothing needs."""

import importlib.util
from pathlib import Path

import click

from slipway.cli.project import dry_run_option, find_root, json_option, run_flow
from slipway.errors import ConfigError

decrypt_option = click.option(
    "--decrypt", metavar="COMMAND", help="Reads encrypted secrets on stdin, writes them on stdout."
)


@click.command()
@click.argument("url", required=False)
@click.option(
    "--encrypt", metavar="COMMAND", help="Reads secrets on stdin, writes them encrypted on stdout."
)
@click.option("--without-secrets", is_flag=True, help="Leave keys and credentials out.")
@dry_run_option
@json_option
def backup(
    url: str | None, encrypt: str | None, without_secrets: bool, dry_run: bool, as_json: bool
) -> int:
    """Keep what this project holds at URL: a folder, or any place that fsspec has a driver for.

    Kept are git with all branches, what any commit's dvc.lock needs of DVC's cache, the store,
    the hosts' memory of serials, the records of runs, and, encrypted by a program of yours, keys
    and credentials. Only what is new is copied; what is damaged is refused. Without URL it goes
    where `to:` in configs/backup.yaml says. Not kept are changes that are in no commit.

    With --without-secrets, whoever restores makes new keys, and every host must be told to trust
    them.

    \b
      slipway backup /mnt/backup/flights --encrypt "age -R configs/backup-recipients.txt"
      slipway backup --dry-run
      slipway backup s3://bucket/flights --without-secrets
    """
    options = [_absolute(url)] if url else []
    options += ["--encrypt", encrypt] if encrypt else []
    options += ["--without-secrets"] if without_secrets else []
    options += ["--dry-run"] if dry_run else []
    options += ["--json"] if as_json else []
    return run_flow(find_root(), "flows.commands.backup", *options)


@click.command()
@click.argument("url")
@click.argument("into", required=False, type=click.Path(path_type=Path, resolve_path=True))
@click.option("--snapshot", metavar="S", help="The beginning of its name; the newest if left out.")
@decrypt_option
@click.option("--without-secrets", is_flag=True, help="Restore all but keys and credentials.")
@click.option("--list", "list_", is_flag=True, help="Name the snapshots that there are.")
@click.option("--drill", is_flag=True, help="Restore into a temporary folder, verify, measure.")
@json_option
def restore(
    url: str,
    into: Path | None,
    snapshot: str | None,
    decrypt: str | None,
    without_secrets: bool,
    list_: bool,
    drill: bool,
    as_json: bool,
) -> int:
    """Bring a backup at URL back into the empty folder INTO.

    Every object is held against its SHA-256 before it gets its place. A restore that was cut off
    is run again as it was. Afterwards `dvc checkout` gives the workspace, and `slipway verify
    --all` looks through all of it.

    With --drill, inside the project: restore the newest snapshot into a temporary folder, check
    every signature, channel, key and stage, and say how old the snapshot is (RPO) and how long it
    took to bring it back (RTO). Exit code 1: something is missing.

    \b
      slipway restore /mnt/backup/flights ./flights --decrypt "age -d -i identity.txt"
      slipway restore /mnt/backup/flights --list
      slipway restore /mnt/backup/flights --drill
    """
    if sum([into is not None, list_, drill]) != 1:
        raise click.UsageError("give the folder INTO, or --list, or --drill")
    options = [_absolute(url), *([str(into)] if into else [])]
    options += ["--snapshot", snapshot] if snapshot else []
    options += ["--decrypt", decrypt, "--here", str(Path.cwd())] if decrypt else []
    options += ["--without-secrets"] if without_secrets else []
    options += ["--list"] if list_ else []
    options += ["--drill"] if drill else []
    options += ["--json"] if as_json else []
    root = find_root() if drill else _code()
    return run_flow(root, "flows.commands.restore", *options)


def _code() -> Path:
    """Return a folder from which the flows can be run: a project, or wherever they are found."""
    try:
        return find_root()
    except ConfigError:
        if importlib.util.find_spec("flows") is None:
            raise ConfigError(
                "the command line",
                [
                    "restore needs the code of a checkout (flows/), and this is none: run it in a"
                    " clone of the project. Without a remote, the backup has it as a git bundle:"
                    " docs/backup.md, When only the backup is left"
                ],
            ) from None
        return Path.cwd()


def _absolute(url: str) -> str:
    """Make a folder absolute: the flow runs in the project's root."""
    return url if "://" in url else str(Path(url).expanduser().resolve())


@click.command()
@click.option("--keep-runs", type=click.IntRange(min=1), default=50, show_default=True, metavar="N",
              help="Records of runs that stay in any case: the newest N.")  # fmt: skip
@click.option("--keep-days", type=click.FloatRange(min=0), default=90.0, show_default=True,
              metavar="D", help="What is younger than D days stays.")  # fmt: skip
@click.option("--store", is_flag=True, help="Also bundles of the stores that nothing needs.")
@dry_run_option
@json_option
def prune(keep_runs: int, keep_days: float, store: bool, dry_run: bool, as_json: bool) -> int:
    """Remove records of runs, checkpoints and cached data that nothing needs any more.

    What stays: the newest runs and those of the last days, whichever is more, and every record
    that a released version leads back to; what a branch, a tag or a checkout needs of DVC's cache,
    and what the bundles that are kept were made of. With --store, bundles go that no channel, no
    host and none of the ledger's newest decisions needs; a rejected version stays rejected. The
    table says of everything else why it stays. Waits for a run that is at work.

    \b
      slipway prune --dry-run
      slipway prune --keep-runs 200 --keep-days 365
      slipway prune --store --dry-run
    """
    options = ["--keep-runs", str(keep_runs), "--keep-days", str(keep_days)]
    options += ["--store"] if store else []
    options += ["--dry-run"] if dry_run else []
    options += ["--json"] if as_json else []
    return run_flow(find_root(), "flows.commands.prune", *options)
