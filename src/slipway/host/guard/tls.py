"""Serve TLS with a certificate that is replaced while the host runs.

Each certificate gets a context of its own, and a new connection is given the newest during its
handshake. Loading a new pair into the context in use would be shorter and wrong: a pair that
does not fit leaves the context with half of it, and an RSA certificate stays beside the ECDSA
one that replaced it. Connections that are open keep what they began with.
"""

import logging
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from slipway.errors import SlipwayError
from slipway.guarded_files import PUBLISHED, SECRET, read_guarded, stamp

log = logging.getLogger(__name__)

DAY_S: Final = 86_400
WARN_DAYS: Final = 14
"""Long enough to notice on a Monday what stopped renewing before the holidays."""

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has nothing else."""


@dataclass(frozen=True)
class Pair:
    """One certificate chain with its key, both checked."""

    chain: bytes
    key: bytes
    expires: float
    """Unix time at which the first of the chain ends."""
    context: ssl.SSLContext


class TlsContext:
    """The certificate that is in force, whichever it is."""

    def __init__(
        self,
        cert: Path,
        key: Path,
        wall: Callable[[], float] = time.time,
        protocol: str = "http/1.1",
    ) -> None:
        """Load the pair; raise SlipwayError if it cannot be used."""
        self._paths = cert, key
        self._wall = wall
        self._protocol = protocol
        self._warned_day = -1
        self._stamps = self._look()
        self._pair = load_pair(cert, key, protocol)
        self.generation = 1
        """Goes up with each new certificate."""
        self.context = new_context(protocol)
        """For listeners; it never changes, what it presents does."""
        self._present(self._pair)
        self.context.sni_callback = self._choose

    @property
    def days_left(self) -> float:
        """Days until the chain expires; negative afterwards."""
        return (self._pair.expires - self._wall()) / DAY_S

    def poll(self) -> None:
        """Take up a pair that was replaced and warn of an end near; for about once a second."""
        if self._look() != self._stamps:
            self.reload()
        today = int(self._wall() // DAY_S)
        if self.days_left < WARN_DAYS and today != self._warned_day:
            self._warned_day = today
            log.warning("the certificate expires soon", extra={"days": round(self.days_left, 1)})

    def reload(self) -> None:
        """Load the pair again; the old one stays if the new one cannot be used."""
        self._stamps = self._look()
        try:
            pair = load_pair(*self._paths, self._protocol)
            if pair.expires <= self._wall():
                raise SlipwayError(f"{self._paths[0]}: has expired")
        except SlipwayError as error:
            log.error("TLS could not be reloaded; the old pair stays", extra={"reason": str(error)})
            return
        self._pair = pair
        self.generation += 1
        log.info("TLS reloaded", extra={"days": round(self.days_left, 1)})

    def _look(self) -> list[object]:
        return [stamp(path) for path in self._paths]

    def _present(self, pair: Pair) -> None:
        """Give the listeners' context a pair: without one OpenSSL refuses before it asks."""
        _load_chain(self.context, pair.chain, pair.key)

    def _choose(self, tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Give a handshake the newest pair; called whether or not the client names a host.

        ALPN is judged by what is given here, so each context has the listener's protocol.
        """
        tls.context = self._pair.context


def new_context(protocol: str) -> ssl.SSLContext:
    """Make a server's context: TLS 1.2 and up, no compression, one protocol (ALPN)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols([protocol])
    return context


def load_pair(cert: Path, key: Path, protocol: str) -> Pair:
    """Read a chain and its key; raise SlipwayError unless they fit and the key is guarded."""
    chain, secret = read_guarded(cert, PUBLISHED), read_guarded(key, SECRET)
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        raise SlipwayError(f"{cert}: holds no certificate in PEM form") from None
    context = new_context(protocol)
    try:
        _load_chain(context, chain, secret)
    except (ssl.SSLError, ValueError):
        raise SlipwayError(
            f"{key}: is no unencrypted private key in PEM form that fits {cert}"
        ) from None
    expires = min(certificate.not_valid_after_utc.timestamp() for certificate in certificates)
    return Pair(chain, secret, expires, context)


def _load_chain(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Load the bytes that were checked: OpenSSL takes names only, so from memory under one.

    An encrypted key must fail, and not ask at a terminal that a service does not have.
    """
    descriptor = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, key + b"\n" + chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: b"")
    finally:
        os.close(descriptor)
