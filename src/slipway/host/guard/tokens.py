"""Verify JSON Web Tokens against a file of public keys (JWKS); nothing is ever fetched.

PyJWT does the cryptography and nothing else: the algorithm is pinned by the host's options,
each key is bound to it when the file is read, and `claims` judges all that is said. What was
verified is remembered until it expires, by its digest, so a caller pays for its signature
once; what was refused is not, so garbage drives nothing out.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import jwt
from jwt.api_jws import PyJWS

from slipway.bundle.format import parse_json
from slipway.errors import SlipwayError
from slipway.guarded_files import PUBLISHED, read_guarded
from slipway.host.guard.caller import Caller
from slipway.host.guard.claims import KID, Expected, judge_claims, read_header, refuse_token

ALGORITHMS: Final = {"ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519"), "RS256": ("RSA", None)}
"""The key type and curve of each algorithm. No shared secrets: who can verify could forge."""

PRIVATE_PARTS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
RSA_BITS: Final = 2048
REMEMBERED: Final = 4096


class Tokens:
    """The tokens of one issuer."""

    def __init__(
        self, keys: Mapping[str, jwt.PyJWK], expected: Expected, wall: Callable[[], float]
    ) -> None:
        self._keys = keys
        self._expected = expected
        self._wall = wall
        self._jws = PyJWS([expected.algorithm])
        self._remembered: OrderedDict[bytes, Caller] = OrderedDict()

    @classmethod
    def load(
        cls, path: Path, expected: Expected, wall: Callable[[], float] = time.time
    ) -> "Tokens":
        """Read the file of keys; raise SlipwayError with what is wrong in it."""
        data = read_guarded(path, PUBLISHED)
        try:
            return cls(read_jwks(data, expected.algorithm), expected, wall)
        except ValueError as error:
            raise SlipwayError(f"{path}: {error}") from None

    def __len__(self) -> int:
        """Return how many tokens are remembered."""
        return len(self._remembered)

    def identify(self, token: bytes, digest: bytes) -> Caller:
        """Return whose token this is; raise RequestRefused if it is nobody's."""
        caller = self._remembered.get(digest)
        if caller is None:
            caller = self._remembered[digest] = self._verify(token)
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        elif caller.expires <= self._wall():
            del self._remembered[digest]
            raise refuse_token("it has expired")
        else:
            self._remembered.move_to_end(digest)
        return caller

    def _verify(self, token: bytes) -> Caller:
        """Verify the signature before a byte of the payload is read."""
        key = self._keys.get(read_header(token, self._expected))
        if key is None:
            raise refuse_token("its kid is not known here")
        try:
            payload = self._jws.decode(token, key, algorithms=[self._expected.algorithm])
        except jwt.InvalidTokenError:
            raise refuse_token("its signature is wrong") from None
        grant = judge_claims(payload, self._expected, self._wall())
        # With a colon, which no key's id has: a token cannot pass for a key in the logs.
        return Caller(f"token:{grant.subject}", grant.scopes, grant.models, grant.expires)


def read_jwks(data: bytes, algorithm: str) -> dict[str, jwt.PyJWK]:
    """Read a JWKS into keys by `kid`; raise ValueError with every problem in it."""
    document = parse_json(data)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError('expected {"keys": [...]} with at least one key')
    keys: dict[str, jwt.PyJWK] = {}
    problems = []
    for index, entry in enumerate(entries):
        try:
            kid, key = _read_jwk(entry, algorithm)
            if kid in keys:
                raise ValueError(f"kid {kid!r} is given to two keys")
            keys[kid] = key
        except ValueError as error:
            problems.append(f"keys.{index}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return keys


def _read_jwk(entry: Any, algorithm: str) -> tuple[str, jwt.PyJWK]:
    if not isinstance(entry, dict):
        raise ValueError("expected an object")
    if found := sorted(PRIVATE_PARTS & entry.keys()):
        raise ValueError(f"holds a private key ({', '.join(found)}); publish the public part only")
    kind, curve = ALGORITHMS[algorithm]
    if (entry.get("kty"), entry.get("crv")) != (kind, curve):
        raise ValueError(f"{algorithm} takes kty {kind!r} and crv {curve!r}")
    if entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
        raise ValueError(f"is not for {algorithm} signatures")
    kid = entry.get("kid")
    if not isinstance(kid, str) or not KID.fullmatch(kid):
        raise ValueError("kid must be 1 to 128 of letters, digits, '.', '_' and '-'")
    try:
        key = jwt.PyJWK(entry, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        raise ValueError(f"{kid!r} is no valid {kind} key") from None
    if kind == "RSA" and key.key.key_size < RSA_BITS:
        raise ValueError(f"{kid!r} has {key.key.key_size} bits, at least {RSA_BITS} are needed")
    return kid, key
