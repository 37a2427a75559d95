"""Start one host without the rest of the command line: `python -m slipway.host --help`."""

import os
import sys

import click

from slipway.errors import SlipwayError
from slipway.host.guard.environment import scrub
from slipway.host.process.command import host


def main() -> int:
    """Run a host in the foreground and return the exit code."""
    scrub(os.environ)
    try:
        host.main(prog_name="slipway host", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SlipwayError as error:
        click.echo(f"slipway: {error}", err=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
