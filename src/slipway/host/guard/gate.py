"""The guard of a host that knows its callers: API keys, tokens or both.

Files are looked at about once a second and on SIGHUP. A file that cannot be read keeps the
callers as they are: a slip of an editor must not shut everyone out, so it is an alarm instead.
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway.errors import SlipwayError
from slipway.guarded_files import stamp
from slipway.host.guard.caller import NEVER, Caller
from slipway.host.guard.claims import TOKEN_BYTES, Expected
from slipway.host.guard.keys import ApiKey, read_keys
from slipway.host.guard.rate import Allowance, Used
from slipway.host.guard.tokens import Tokens
from slipway.host.request.refusal import RequestRefused

log = logging.getLogger(__name__)

BEARER: Final = re.compile(rb"bearer ([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)

Wall = Callable[[], float]


@dataclass(frozen=True)
class Sources:
    """Where callers are known from; at least one of the two."""

    api_keys: Path | None = None
    """The file of API keys."""
    jwks: Path | None = None
    """The file of the issuer's public keys."""
    expected: Expected | None = None
    """What its tokens must say; given with `jwks`."""


class AccessGate:
    """Tells who sends a request, by the secret in its `Authorization` header."""

    generation: int

    def __init__(self, sources: Sources, wall: Wall = time.time, parts: int = 1) -> None:
        """Read the files; raise SlipwayError if one is wrong, because nobody is known yet.

        One of several processes of a host gives each key its part of the rate and the quota.
        """
        self._sources = sources
        self._parts = parts
        self._wall = wall
        self._meters: dict[str, Allowance] = {}
        self._tokens: Tokens | None = None
        self.generation = 0
        self.problem: str | None = None
        """Why the files are not those in force, for `/status` and an alarm."""
        self._load()

    def identify(self, authorization: bytes | None) -> Caller:
        """Return whose secret this is; raise RequestRefused if it is nobody's.

        Secrets are looked up by digest, so how long a look takes says something about
        digests only, and nobody can choose those.
        """
        if authorization is None:
            raise RequestRefused(
                "unauthenticated", "send Authorization: Bearer with a key or token"
            )
        found = BEARER.fullmatch(authorization)
        if found is None or len(found[1]) > TOKEN_BYTES:
            raise RequestRefused("unauthenticated", "the Authorization header is no Bearer token")
        secret = found[1]
        digest = hashlib.sha256(secret).digest()
        caller = self._keys.get(digest)
        if caller is None and self._tokens is not None:
            return self._tokens.identify(secret, digest)
        if caller is None:
            raise RequestRefused("unauthenticated", "the key is not known here")
        if caller.expires <= self._wall():
            raise RequestRefused("unauthenticated", "the key or token has expired")
        return caller

    def poll(self) -> None:
        """Reload if a file has changed; two `stat` calls, for about once a second."""
        if self._look() != self._stamps:
            self.reload()

    def reload(self) -> None:
        """Read the files again, all or none of them; what was known stays if one is wrong."""
        try:
            self._load()
        except SlipwayError as error:
            self.problem = str(error)
            log.error("keys could not be reloaded; the old ones stay", extra={"reason": str(error)})
            return
        self.problem = None
        log.info("keys reloaded", extra={"keys": len(self._keys), "generation": self.generation})

    def used(self) -> dict[str, Used]:
        """Return what each key has used of its quota today."""
        return {name: meter.used for name, meter in self._meters.items()}

    def restore(self, used: Mapping[str, Used]) -> None:
        """Take up the quotas where the process before this one left them."""
        for name in used.keys() & self._meters.keys():
            self._meters[name].used = used[name]

    def _look(self) -> list[object]:
        paths = (self._sources.api_keys, self._sources.jwks)
        return [stamp(path) for path in paths if path is not None]

    def _load(self) -> None:
        """Look before reading: a change in between is then found by the next poll."""
        self._stamps = self._look()
        sources = self._sources
        keys = read_keys(sources.api_keys) if sources.api_keys else ()
        tokens = self._tokens
        if sources.jwks and sources.expected:
            tokens = Tokens.load(sources.jwks, sources.expected, self._wall)
        self._meters = {key.id: meter for key in keys if (meter := self._meter(key))}
        self._keys = {bytes.fromhex(key.sha256): self._caller(key) for key in keys}
        self._tokens = tokens
        self.generation += 1

    def _meter(self, key: ApiKey) -> Allowance | None:
        """Keep the meter that a key has: a reload gives nobody a fresh quota."""
        limits = key.limits
        if limits is None:
            return None
        limits = limits.divide(self._parts)
        meter = self._meters.get(key.id)
        if meter is None:
            return Allowance(limits, wall=self._wall)
        meter.limits = limits
        return meter

    def _caller(self, key: ApiKey) -> Caller:
        return Caller(
            id=key.id,
            scopes=frozenset(key.scopes),
            models=None if key.models is None else frozenset(key.models),
            expires=NEVER if key.expires is None else key.expires.timestamp(),
            meter=self._meters.get(key.id),
        )
