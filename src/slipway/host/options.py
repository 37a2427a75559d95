"""How one host is started."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from slipway.errors import ConfigError
from slipway.host.follow.memory import MODEL
from slipway.host.wire.exchange import Limits

PORT_MAX = 65_535


@dataclass(frozen=True)
class HostOptions:
    """One host, as the command line names it."""

    name: str
    """Unique in the fleet."""
    fleet: str
    """Whose channels it follows."""
    port: int
    """Where it answers requests."""
    admin_port: int
    """Where it answers `/status`, on loopback whatever the address is."""
    store: str
    """A path or any fsspec URL."""
    trusted_keys: Path
    """Folder with `builder/*.pub` and `release/*.pub`."""
    state: Path
    """Folder of its own: cache and memory."""
    address: str = "127.0.0.1"
    """Where it listens; loopback only, because there is no authentication yet."""
    poll_s: float = 1.0
    """Seconds between two looks at the store."""
    threads: int = 1
    """CPU threads per run of a model."""
    limits: Limits = field(default_factory=Limits)
    """What one connection may take."""


def check_options(options: HostOptions) -> None:
    """Raise ConfigError with every problem, before anything is opened."""
    problems = []
    try:
        loopback = ipaddress.ip_address(options.address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        problems.append(
            f"--address: must be a loopback address, got {options.address!r}: this host has no"
            " authentication. Put a proxy that has in front of it"
        )
    for option, port in (("--port", options.port), ("--admin-port", options.admin_port)):
        if not 0 < port <= PORT_MAX:
            problems.append(f"{option}: must be from 1 to {PORT_MAX}, got {port}")
    if options.port == options.admin_port:
        problems.append(f"--admin-port: must differ from --port, got {options.port} for both")
    for option, name in (("--name", options.name), ("--fleet", options.fleet)):
        if not MODEL.fullmatch(name):
            problems.append(f"{option}: must be letters, digits, '.', '_' and '-', got {name!r}")
    if not options.poll_s > 0:
        problems.append(f"--poll-s: must be greater than 0, got {options.poll_s}")
    if options.threads < 1:
        problems.append(f"--threads: must be at least 1, got {options.threads}")
    if problems:
        raise ConfigError("the command line", problems)
