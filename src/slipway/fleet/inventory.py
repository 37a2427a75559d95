"""The fleet's inventory: `configs/fleets/<fleet>.yaml`, checked before anything starts."""

import ipaddress
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from slipway.config import NAME
from slipway.errors import ConfigError
from slipway.sections import Section, parse, suggest

ADMIN_ADDRESS = "127.0.0.1"
"""A host's admin listener is on loopback, whatever address its callers use."""

Port = Annotated[int, Field(ge=1, le=65535)]


class Host(Section):
    """One inference host: a name and the two addresses it listens on."""

    name: str
    """Unique in the fleet; becomes a file name, so lower-case letters, digits and dashes."""
    address: str = "127.0.0.1"
    """Where the host listens for requests."""
    port: Port
    """Open Inference Protocol over HTTP."""
    admin_port: Port
    """The host's own state, for the loopback interface only."""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"not a name of lower-case letters, digits and dashes: {name!r}")
        return name

    @field_validator("address")
    @classmethod
    def _is_an_ip_address(cls, address: str) -> str:
        try:
            return str(ipaddress.ip_address(address))
        except ValueError:
            raise ValueError(f"not an IP address: {address!r}") from None

    @property
    def url(self) -> str:
        """The address that callers use."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{address}:{self.port}"

    @property
    def admin_url(self) -> str:
        """The address that says what the host does and why."""
        return f"http://{ADMIN_ADDRESS}:{self.admin_port}"

    @property
    def listeners(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Address and port of both listeners."""
        return (self.address, self.port), (ADMIN_ADDRESS, self.admin_port)


class FleetConfig(Section):
    """One fleet as people write it; paths are relative to the project's root."""

    store: str
    """Where bundles, channels and the ledger live: a path or any fsspec URL."""
    trusted_keys: str
    """Folder of the public keys that the hosts trust: builder/*.pub and release/*.pub."""
    state: str
    """Folder of the hosts' caches, logs and pid files."""
    launch: Literal["local"]
    """How hosts are started: `local` is a process on this machine."""
    hosts: Annotated[list[Host], Field(min_length=1)]
    """The hosts that serve together."""

    @model_validator(mode="after")
    def _hosts_do_not_collide(self) -> Self:
        names = Counter(host.name for host in self.hosts)
        ports = Counter(listener for host in self.hosts for listener in host.listeners)
        problems = [f"two hosts are named {name!r}" for name, n in names.items() if n > 1]
        problems += [
            f"port {p} of {address} is given twice" for (address, p), n in ports.items() if n > 1
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _local_hosts_stay_on_loopback(self) -> Self:
        public = [h for h in self.hosts if not ipaddress.ip_address(h.address).is_loopback]
        if self.launch == "local" and public:
            named = ", ".join(f"{host.name} ({host.address})" for host in public)
            raise ValueError(f"a local host listens on a loopback address only: {named}")
        return self


@dataclass(frozen=True)
class Fleet:
    """One fleet with its paths made absolute."""

    name: str
    store: str
    trusted_keys: Path
    state: Path
    hosts: tuple[Host, ...]


def fleets(root: Path) -> list[str]:
    """Name the fleets that a project holds."""
    return sorted(path.stem for path in (root / "configs/fleets").glob("*.yaml"))


def load_fleet(root: Path, name: str) -> Fleet:
    """Read `configs/fleets/<name>.yaml` under `root`; raise ConfigError with every problem."""
    if name not in (known := fleets(root)) or not NAME.fullmatch(name):
        there_is = ", ".join(known) or "none"
        raise ConfigError(
            "the command line",
            [f"unknown fleet {name!r}{suggest(name, known)}; there is: {there_is}"],
        )
    config = parse(FleetConfig, root / "configs/fleets" / f"{name}.yaml", root)
    return Fleet(
        name=name,
        store=config.store if "://" in config.store else str(root / config.store),
        trusted_keys=root / config.trusted_keys,
        state=root / config.state,
        hosts=tuple(config.hosts),
    )
