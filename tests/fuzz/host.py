"""A host to fuzz, as a process: real wire and engines, models that answer what they are given.

    python -m tests.fuzz.host

Prints its ports, HTTP and gRPC, and ends when its input does.
"""

import sys
import warnings

from slipway.bundle.datatypes import DTYPES
from tests.paper_host import SocketHost, make_contract


def main() -> None:
    """Serve until the input ends; exit with 1 if the loop met what nobody handled."""
    warnings.simplefilter("error")
    host = SocketHost(
        *(make_contract(f"m-{kind.lower()}", x=kind) for kind in DTYPES),
        make_contract("flat", [-1], x="FP32"),
        make_contract("free", [-1, -1], x="BYTES"),
        make_contract("two", x="FP32", z="BYTES"),
    )
    sys.stdout.write(f"{host.port} {host.grpc_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    host.close()
    sys.stderr.write("".join(f"{problem}\n" for problem in host.problems))
    sys.exit(bool(host.problems))


if __name__ == "__main__":
    main()
