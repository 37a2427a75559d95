"""Start one host without the rest of the command line: `python -m slipway.host --help`."""

import argparse
import sys
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.host.options import HostOptions


def main(arguments: list[str] | None = None) -> int:
    """Run a host in the foreground and return the exit code."""
    try:
        # Imported late: --help must not wait for ONNX Runtime.
        options = _parse(arguments)
        from slipway.host.server import serve

        serve(options)
    except SlipwayError as error:
        print(f"slipway: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _parse(arguments: list[str] | None) -> HostOptions:
    parser = argparse.ArgumentParser(prog="slipway host", description=__doc__)
    parser.add_argument("--name", required=True, help="name of this host in its fleet")
    parser.add_argument("--fleet", required=True, help="fleet whose channels it follows")
    parser.add_argument("--port", type=int, required=True, help="port for requests")
    parser.add_argument("--admin-port", type=int, required=True, help="loopback port for /status")
    parser.add_argument("--store", required=True, help="path or fsspec URL of the store")
    parser.add_argument("--trusted-keys", type=Path, required=True, help="folder of public keys")
    parser.add_argument("--state", type=Path, required=True, help="folder of this host's own")
    parser.add_argument("--address", default="127.0.0.1", help="loopback address to listen on")
    parser.add_argument("--poll-s", type=float, default=1.0, help="seconds between looks")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads per run")
    return HostOptions(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
