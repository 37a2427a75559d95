"""The command line: results on stdout, talk on stderr, errors told once, here.

Exit codes: 0 success, 1 a gate or run failed, 2 wrong usage or config, 130 Ctrl-C. Commands
import what they need when they run, so that `slipway host` starts where only the host is
installed, and `--help` answers at once.
"""

import sys
from typing import NoReturn

import click

from slipway import __version__
from slipway.cli.backup import backup, prune, restore
from slipway.cli.bundle import bundle
from slipway.cli.deliver import accept, build, explain, merge, release, run, worker
from slipway.cli.deployments import deployments
from slipway.cli.diff import diff
from slipway.cli.doctor import doctor
from slipway.cli.inspect import trace, verify
from slipway.cli.keys import keys
from slipway.cli.notify import notify
from slipway.cli.runs import runs
from slipway.cli.serve import fleet, rollback, status
from slipway.errors import SlipwayError
from slipway.host.process.command import host

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


@click.group(
    commands=[
        run,
        build,
        explain,
        accept,
        worker,
        deployments,
        merge,
        release,
        rollback,
        status,
        fleet,
        host,
        verify,
        trace,
        runs,
        diff,
        doctor,
        notify,
        bundle,
        keys,
        backup,
        restore,
        prune,
    ],
    epilog="Start with: slipway run flights",
)
@click.version_option(__version__, prog_name="slipway")
def cli() -> None:
    """From a dataset to a live, proven model on your own servers."""


def main() -> NoReturn:
    """Run one command and turn how it ended into an exit code."""
    try:
        code = cli.main(prog_name="slipway", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except SlipwayError as error:
        click.echo(f"slipway: {error}", err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("slipway: interrupted", err=True)
        code = INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        sys.stderr.close()
        code = 1
    sys.exit(code or 0)
