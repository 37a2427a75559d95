"""The command that is one inference host."""

from pathlib import Path

import click


@click.command()
@click.option("--name", required=True, help="This host's name in its fleet.")
@click.option("--fleet", required=True, help="The fleet whose channels it follows.")
@click.option("--address", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option("--port", required=True, type=click.IntRange(1, 65535), help="Port for requests.")
@click.option(
    "--admin-port", required=True, type=click.IntRange(1, 65535), help="Port for /status, loopback."
)
@click.option("--store", required=True, metavar="URL", help="Where bundles and channels are.")
@click.option(
    "--trusted-keys",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Public keys: builder/*.pub and release/*.pub.",
)
@click.option(
    "--state",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Its cache, and its memory of the channels it applied.",
)
@click.option(
    "--poll-s", default=1.0, show_default=True, help="Seconds between two looks at the channels."
)
@click.option("--threads", default=1, show_default=True, help="CPU threads of a session.")
def host(
    name: str,
    fleet: str,
    address: str,
    port: int,
    admin_port: int,
    store: str,
    trusted_keys: Path,
    state: Path,
    poll_s: float,
    threads: int,
) -> None:
    """Run one inference host in the foreground.

    It serves every model that has a channel on its fleet, and loads a bundle only if a
    trusted builder signed it and its golden set runs here as it was proven.

    \b
      slipway host --name a --fleet local --port 18081 --admin-port 18091 \\
        --store .slipway/store --trusted-keys .slipway/fleets/local/trusted_keys \\
        --state .slipway/fleets/local/hosts/a
    """
    from slipway.host.server import HostOptions, serve

    serve(
        HostOptions(
            name=name,
            fleet=fleet,
            address=address,
            port=port,
            admin_port=admin_port,
            store=store,
            trusted_keys=trusted_keys,
            state=state,
            poll_s=poll_s,
            threads=threads,
        )
    )
