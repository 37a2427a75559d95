"""Show hosts who asks, and believe only hosts that an authority of this fleet vouches for.

The secret goes from its file into one header and nowhere else: no message, log, argument or
`repr` has it. What a host refuses comes back in words that say what to do next.
"""

import os
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx

from slipway.errors import SlipwayError
from slipway.fleet.inventory import Credentials
from slipway.fleet.processes import users_behind
from slipway.guarded_files import PUBLISHED, SECRET, Stamp, read_guarded, stamp

TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
"""What may follow `Bearer`: RFC 6750, section 2.1. Anything else would be quoted in an error."""

MAKE_ONE: Final = "slipway keys add --file KEYS --name NAME --scope infer --scope admin"
"""What makes a key that suffices; its secret goes to stdout."""

REFUSALS: Final = frozenset({401, 403, 429})
"""Statuses that are about who asks."""


class Stranger(SlipwayError):
    """Somebody else would have learned the secret."""


class CallerKeyFile:
    """The secret of a file, read again when the file changes, so that rotation is taken up."""

    def __init__(self, path: Path | None) -> None:
        """Read it; raise SlipwayError if others could read it, or if it holds no secret."""
        self._path = path
        self._seen: Stamp | None = None
        self._header: dict[str, str] = {}
        if path is not None:
            self._load(path)

    def header(self) -> dict[str, str]:
        """Return what to send; nothing where no key is asked for.

        A file that cannot be read keeps what was read before: one that is being replaced is
        empty for a moment, and if the old secret is revoked the host says so.
        """
        if self._path is not None and stamp(self._path) != self._seen:
            with suppress(SlipwayError):
                self._load(self._path)
        return self._header

    def look(self, event: str, info: Mapping[str, Any]) -> None:
        """See who is at the other end of a new connection, before anything goes over it.

        A port of loopback belongs to whoever took it first. Raise Stranger unless that is root,
        this user, or the one whom the file belongs to. For httpx, as the extension `trace`.
        """
        if self._path is None or event != "connection.connect_tcp.complete":
            return
        stream = info["return_value"]
        friends = {0, os.getuid()}
        with suppress(OSError):
            friends.add(self._path.stat().st_uid)
        try:
            server, client = (
                stream.get_extra_info(end)[:2] for end in ("server_addr", "client_addr")
            )
        except OSError:  # it hung up: nobody is there to learn anything
            return
        if others := users_behind(server, client) - friends:
            stream.close()
            named = ", ".join(map(str, sorted(others)))
            raise Stranger(
                f"was not asked: port {server[1]} is held by a process of another user ({named})"
            )

    def _load(self, path: Path) -> None:
        """Look before reading: a change in between is then found the next time."""
        seen = stamp(path)
        secret = read_guarded(path, SECRET).strip()
        if not TOKEN.fullmatch(secret):
            raise SlipwayError(
                f"{path}: must hold one secret and nothing else; `{MAKE_ONE}` prints one"
            )
        self._header = {"Authorization": f"Bearer {secret.decode()}"}
        self._seen = seen


def trust(ca: Path | None) -> ssl.SSLContext:
    """Believe hosts that these authorities vouch for, and nobody else; without them, nobody.

    Never the system's: `ssl.create_default_context` takes those where a file turns out empty.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        pem = read_guarded(ca, PUBLISHED)
        try:
            context.load_verify_locations(cadata=pem.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise SlipwayError(f"{ca}: holds no certificate in PEM form") from None
    return context


def check(credentials: Credentials) -> None:
    """Raise SlipwayError unless the files can be used, for whoever needs them only later."""
    CallerKeyFile(credentials.key_file)
    trust(credentials.ca)


def explain_refusal(status: int, said: str, wanted: str, key_file: Path | None) -> str:
    """Say why a host refused who asks, and what to do about it.

    `wanted` names what the key must allow for this request.
    """
    if status == 401 and key_file is None:
        problem = (
            f"asks for a key {said}: put the secret of one into a file of mode 0600, and name the"
            " file as credentials.key_file in configs/fleets/"
        )
    elif status == 401:
        problem = f"does not know the key in {key_file} {said}: put the secret of another there"
    elif status == 403:
        problem = f"refuses the key in {key_file} {said}: it lacks {wanted}"
    else:
        problem = f"meters the key in {key_file} {said}: take one without --rate and --quota"
    return f"{problem}; {MAKE_ONE}"


def explain_tls(error: httpx.HTTPError, ca: Path | None) -> str | None:
    """Say what is wrong with a host's TLS and what to do; None if something else went wrong.

    A connection that ends early is something else: the host went down.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that {ca} does not vouch for"
            f" ({cause.verify_message.rstrip('.')}): credentials.ca must hold the authority that"
            " signed it, and it must be valid now and for the host's address"
        )
    if cause is not None and not isinstance(cause, ssl.SSLEOFError):
        return f"does not speak TLS as configs/fleets/ has it ({cause.reason}): start it anew"
    return None
