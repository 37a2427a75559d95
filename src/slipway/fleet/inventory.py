"""The fleet's inventory: `configs/fleets/<fleet>.yaml`, checked before anything starts."""

import ipaddress
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from slipway.config import NAME
from slipway.errors import KEY_PREFIX, ConfigError
from slipway.sections import Section, parse, suggest
from slipway.state import settled

ADMIN_ADDRESS = "127.0.0.1"
"""A host's admin listener is on loopback, whatever address its callers use."""

Port = Annotated[int, Field(ge=1, le=65535)]

FilesT = TypeVar("FilesT", "Tls", "Credentials")


def _is_no_secret(path: Path) -> Path:
    """Keep a secret that was put in the wrong place out of every message about files."""
    if KEY_PREFIX in str(path):
        raise ValueError(
            "is a secret, not the name of a file: git and logs would keep it; revoke it, and"
            " put a new one into a file that only you can read"
        )
    return path


File = Annotated[Path, AfterValidator(_is_no_secret)]


class HostConfig(Section):
    """One inference host as people write it: a name and the addresses it listens on."""

    name: str
    """Unique in the fleet; becomes a file name, so lower-case letters, digits and dashes."""
    address: str = "127.0.0.1"
    """Where the host listens for requests."""
    port: Port
    """Open Inference Protocol over HTTP."""
    grpc_port: Port | None = None
    """The same over gRPC; left out: no gRPC."""
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
    def listeners(self) -> tuple[tuple[str, int], ...]:
        """Address and port of every listener."""
        grpc = [(self.address, self.grpc_port)] if self.grpc_port is not None else []
        return (self.address, self.port), *grpc, (ADMIN_ADDRESS, self.admin_port)


class Host(HostConfig):
    """One inference host as its callers reach it."""

    tls: bool = False
    """Whether it speaks TLS to callers; its admin listener is on loopback and never does."""

    @property
    def url(self) -> str:
        """The address that callers use."""
        return f"{'https' if self.tls else 'http'}://{self._shown}:{self.port}"

    @property
    def grpc(self) -> str | None:
        """What callers give to a gRPC channel, if the host speaks it; TLS as in `url`."""
        return f"{self._shown}:{self.grpc_port}" if self.grpc_port is not None else None

    @property
    def admin_url(self) -> str:
        """The address that says what the host does and why."""
        return f"http://{ADMIN_ADDRESS}:{self.admin_port}"

    @property
    def _shown(self) -> str:
        return f"[{self.address}]" if ":" in self.address else self.address


class Tls(Section):
    """What the hosts show to callers; both files may be replaced while they run."""

    certificate: File
    """Certificate chain, leaf first, valid for the hosts' addresses (IP:127.0.0.1)."""
    key: File
    """Its key, mode 0640 at most."""


class Credentials(Section):
    """What this project shows to hosts, and what hosts must show to it."""

    key_file: File | None = None
    """File of one secret, mode 0640 at most; its key has the scopes infer and admin."""
    ca: File | None = None
    """Certificates of the authorities that vouch for the hosts; nobody else is believed."""


NO_CREDENTIALS: Final = Credentials()


class FleetConfig(Section):
    """One fleet as people write it; paths are relative to the project's root."""

    store: str
    """Where bundles, channels and the ledger live: a folder, or a URL as `slipway.store` says."""
    trusted_keys: str
    """Folder of the public keys that the hosts trust: builder/*.pub and release/*.pub."""
    state: str
    """Folder of the hosts' caches, logs and pid files."""
    launch: Literal["local"]
    """How hosts are started: `local` is a process on this machine."""
    hosts: Annotated[list[HostConfig], Field(min_length=1)]
    """The hosts that serve together."""
    api_keys: File | None = None
    """Who may ask the hosts: a file of `slipway keys`; left out: everyone on this machine."""
    tls: Tls | None = None
    """What the hosts speak TLS with; left out: they speak plain HTTP."""
    credentials: Credentials = NO_CREDENTIALS
    """What releases, `status` and `fleet up` ask the hosts with."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [*_collisions(self.hosts), *_public(self), *_unasked(self)]
        if problems:
            raise ValueError("; ".join(problems))
        return self


@dataclass(frozen=True)
class Fleet:
    """One fleet with its paths made absolute."""

    name: str
    store: str
    trusted_keys: Path
    state: Path
    hosts: tuple[Host, ...]
    api_keys: Path | None = None
    tls: Tls | None = None
    credentials: Credentials = NO_CREDENTIALS


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
        store=config.store if "://" in config.store else str(settled(root / config.store)),
        trusted_keys=settled(root / config.trusted_keys),
        state=settled(root / config.state),
        hosts=tuple(Host(**host.model_dump(), tls=bool(config.tls)) for host in config.hosts),
        api_keys=settled(root / config.api_keys) if config.api_keys else None,
        tls=_under(root, config.tls) if config.tls else None,
        credentials=_under(root, config.credentials),
    )


def _under(root: Path, files: FilesT) -> FilesT:
    """Make the paths of a section absolute."""
    paths = {name: settled(root / path) for name, path in files if path is not None}
    return files.model_copy(update=paths)


def _collisions(hosts: list[HostConfig]) -> list[str]:
    names = Counter(host.name for host in hosts)
    ports = Counter(listener for host in hosts for listener in host.listeners)
    return [
        *(f"two hosts are named {name!r}" for name, n in names.items() if n > 1),
        *(f"port {p} of {address} is given twice" for (address, p), n in ports.items() if n > 1),
    ]


def _public(config: FleetConfig) -> list[str]:
    public = [h for h in config.hosts if not ipaddress.ip_address(h.address).is_loopback]
    named = ", ".join(f"{host.name} ({host.address})" for host in public)
    if config.launch == "local" and public:
        return [f"a local host listens on a loopback address only: {named}"]
    return []


def _unasked(config: FleetConfig) -> list[str]:
    """Say why this project could not ask its own hosts: now, and not after hours of training."""
    problems = []
    if config.api_keys and not config.credentials.key_file:
        problems.append(
            "api_keys: the hosts ask this project for a key, too; name the file of its secret as"
            " credentials.key_file (slipway keys add --scope infer --scope admin prints one)"
        )
    if config.tls and not config.credentials.ca:
        problems.append(
            "tls: name the file of the authority that signed the certificate as credentials.ca;"
            " hosts that nobody vouches for are not believed"
        )
    return problems
