"""What a host's options say about who can reach it and who is let in, judged before it starts.

The rules: what others can reach asks for a key or a token, always, and is encrypted, unless
`--behind-proxy` states that something in front of it is. The admin listener is never public.
"""

import ipaddress
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway.errors import SlipwayError
from slipway.host.guard.caller import Guard, OpenGuard
from slipway.host.guard.claims import Expected
from slipway.host.guard.gate import AccessGate, Sources
from slipway.host.guard.tls import TlsContext
from slipway.host.guard.tokens import ALGORITHMS

LEEWAY_MAX_S: Final = 60

SOCKET_PATH_BYTES: Final = 107
"""The kernel's limit for the path of a unix socket."""


@dataclass(frozen=True)
class Access:
    """Who can reach a host, and whom it lets in."""

    address: str = "127.0.0.1"
    """Where it answers requests."""
    admin_address: str = "127.0.0.1"
    """Where it answers questions about itself."""
    admin_socket: Path | None = None
    """A unix socket instead of `admin_address`; its folder must be this user's alone."""
    api_keys: Path | None = None
    """File of API keys, made by `slipway keys add`."""
    jwks: Path | None = None
    """File of the token issuer's public keys; takes the next three."""
    jwt_algorithm: str | None = None
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    jwt_leeway_s: float = 60
    """How far the issuer's clock and this one may differ."""
    tls_cert: Path | None = None
    """Certificate chain, leaf first."""
    tls_key: Path | None = None
    """Its key, mode 0640 at most."""
    behind_proxy: bool = False
    """Plain text on a public address is meant: a proxy or mesh in front of it speaks TLS."""


def check_exposure(access: Access) -> list[str]:
    """Return every problem; pure, no file is opened and no name is resolved."""
    problems = [*_check_addresses(access), *_check_tokens(access)]
    if (access.tls_cert is None) != (access.tls_key is None):
        problems.append("--tls-cert and --tls-key: give both or none")
    if access.behind_proxy and access.tls_cert:
        problems.append("--behind-proxy: says that there is no TLS here; drop it or --tls-cert")
    path = access.admin_socket
    if path is not None and not 0 < len(bytes(path)) <= SOCKET_PATH_BYTES:
        problems.append(
            f"--admin-socket: at most {SOCKET_PATH_BYTES} bytes, got {len(bytes(path))}"
        )
    return problems


def open_guard(access: Access, parts: int = 1) -> Guard:
    """Read the keys, for one of so many processes; raise SlipwayError if they cannot be used."""
    if access.api_keys is None and access.jwks is None:
        return OpenGuard()
    expected = None
    if access.jwks:
        algorithm, audience = access.jwt_algorithm, access.jwt_audience
        assert algorithm
        assert audience
        assert access.jwt_issuer
        expected = Expected(algorithm, audience, access.jwt_issuer, access.jwt_leeway_s)
    return AccessGate(Sources(access.api_keys, access.jwks, expected), parts=parts)


def open_tls(access: Access, protocol: str = "http/1.1") -> TlsContext | None:
    """Load the certificate, if there is to be one; raise SlipwayError if it cannot be used.

    Each listener has its own, because it names its protocol (`h2` for gRPC) in the handshake.
    """
    if access.tls_cert is None or access.tls_key is None:
        return None
    return TlsContext(access.tls_cert, access.tls_key, protocol=protocol)


def open_admin_socket(path: Path) -> socket.socket:
    """Bind the admin socket; raise SlipwayError unless its folder keeps everyone else out.

    The folder is what counts: some systems ignore the mode of a socket, and between bind and
    chmod it would stand open. A socket that a killed host left behind is replaced; that no
    other host runs with this one's state is made sure of elsewhere.
    """
    folder = path.parent
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o077:
            raise SlipwayError(
                f"--admin-socket: {folder} is open to others: its mode is {mode:04o};"
                f" chmod 0700 {folder}"
            )
        if path.is_socket():
            path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            path.chmod(0o600)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise SlipwayError(f"--admin-socket: {path}: {error.strerror}") from None
    listener.setblocking(False)
    return listener


def is_public(address: str) -> bool:
    """Tell whether others than this machine reach an address; raise ValueError if it is none."""
    return not ipaddress.ip_address(address).is_loopback


def _check_addresses(access: Access) -> list[str]:
    problems = []
    try:
        public = is_public(access.address)
    except ValueError:
        return [f"--address: must be an IP address, got {access.address!r}"]
    if public and access.api_keys is None and access.jwks is None:
        problems.append(
            f"--address: {access.address} can be reached by others, and this host would answer"
            " anybody; give --api-keys or --jwks, or listen on 127.0.0.1"
        )
    if public and access.tls_cert is None and not access.behind_proxy:
        problems.append(
            f"--address: {access.address} can be reached by others, and keys would cross the"
            " network in plain text; give --tls-cert and --tls-key, or --behind-proxy if what is"
            " in front of this host speaks TLS"
        )
    try:
        admin_public = is_public(access.admin_address)
    except ValueError:
        admin_public = True
    if admin_public and access.admin_socket is None:
        problems.append(
            f"--admin-address: must be a loopback address, got {access.admin_address!r}; or give"
            " --admin-socket"
        )
    return problems


def _check_tokens(access: Access) -> list[str]:
    words = {
        "--jwt-algorithm": access.jwt_algorithm,
        "--jwt-audience": access.jwt_audience,
        "--jwt-issuer": access.jwt_issuer,
    }
    if access.jwks is None:
        return [f"{option}: needs --jwks" for option, value in words.items() if value is not None]
    problems = [f"{option}: is needed with --jwks" for option, value in words.items() if not value]
    if access.jwt_algorithm and access.jwt_algorithm not in ALGORITHMS:
        allowed = ", ".join(sorted(ALGORITHMS))
        problems.append(f"--jwt-algorithm: must be one of {allowed}, got {access.jwt_algorithm!r}")
    if not 0 <= access.jwt_leeway_s <= LEEWAY_MAX_S:
        problems.append(
            f"--jwt-leeway-s: must be from 0 to {LEEWAY_MAX_S}, got {access.jwt_leeway_s}"
        )
    return problems
