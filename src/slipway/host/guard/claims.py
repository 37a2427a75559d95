"""Judge a JSON Web Token's words. Pure: no key, no signature, no clock of its own.

Everything that has let forged or endless tokens in elsewhere is refused by name: an algorithm
that the token picks, `crit`, a key given twice, a `kid` that is a path, times that are no
finite numbers. The reasons go to the caller, so they are fixed words.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from slipway.bundle.format import parse_json
from slipway.host.guard.policy import SCOPES
from slipway.host.request.refusal import RequestRefused

TOKEN_BYTES: Final = 8192
"""Real tokens have some hundred bytes."""

PARTS: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
KID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
SUBJECT: Final = re.compile(r"[!-~]{1,128}")
"""It stands in logs and metrics."""

TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""Other kinds of token that the same issuer signs (logout, proofs) open nothing here."""

LATEST: Final = 253_402_300_799
"""The year 9999. What is beyond it is no time."""


@dataclass(frozen=True)
class Expected:
    """What every token must say."""

    algorithm: str
    """The one algorithm: ES256, RS256 or EdDSA."""
    audience: str
    """Must be in `aud`."""
    issuer: str
    """Must be `iss`."""
    leeway_s: float = 60
    """How far the issuer's clock and ours may differ; at most 60."""


@dataclass(frozen=True)
class Grant:
    """What a token allows."""

    subject: str
    scopes: frozenset[str]
    models: frozenset[str] | None
    expires: float
    """Unix time, the leeway included."""


def refuse_token(reason: str) -> RequestRefused:
    """Make the refusal of a token."""
    return RequestRefused("unauthenticated", f"the token is refused: {reason}")


def read_header(token: bytes, expected: Expected) -> str:
    """Return the `kid` of a token that is formed as it must be; raise RequestRefused otherwise."""
    if len(token) > TOKEN_BYTES:
        raise refuse_token(f"it has more than {TOKEN_BYTES} bytes")
    if (parts := PARTS.fullmatch(token)) is None:
        raise refuse_token("it is no signed token in compact form")
    header = _read_object(_decode(parts[1]), "header")
    if header.get("alg") != expected.algorithm:
        raise refuse_token("its alg is not the one expected here")
    if header.keys() & {"crit", "b64", "zip", "enc"}:
        raise refuse_token("its header asks for what is not done here")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        raise refuse_token("its typ is not that of an access token")
    kid = header.get("kid")
    if not isinstance(kid, str) or not KID.fullmatch(kid):
        raise refuse_token("its kid is missing or malformed")
    return kid


def judge_claims(payload: bytes, expected: Expected, now: float) -> Grant:
    """Return what a payload allows whose signature is right; raise RequestRefused if nothing."""
    claims = _read_object(payload, "payload")
    expires = _read_times(claims, expected.leeway_s, now)
    audience = claims.get("aud")
    if expected.audience not in (audience if isinstance(audience, list) else [audience]):
        raise refuse_token("its aud is not the one expected here")
    if claims.get("iss") != expected.issuer:
        raise refuse_token("its iss is not the one expected here")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not SUBJECT.fullmatch(subject):
        raise refuse_token("its sub is missing or malformed")
    return Grant(subject, _read_scopes(claims), _read_models(claims), expires)


def _read_times(claims: Mapping[str, Any], leeway_s: float, now: float) -> float:
    for name in ("nbf", "iat"):
        if name in claims and _moment(claims, name) > now + leeway_s:
            raise refuse_token(f"its {name} is in the future")
    expires = _moment(claims, "exp") + leeway_s
    if expires <= now:
        raise refuse_token("it has expired")
    return expires


def _moment(claims: Mapping[str, Any], name: str) -> float:
    """Return a time; a number with a huge exponent was read as infinity, and is none."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise refuse_token(f"its {name} is missing or no time")
    return float(value)


def _read_scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes of ours among the token's; those of other services mean nothing."""
    scope = claims.get("scope", "")
    if not isinstance(scope, str):
        raise refuse_token("its scope is no text")
    return SCOPES & frozenset(scope.split(" "))


def _read_models(claims: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the models it is limited to; only a token without the claim has no limit."""
    if "slipway_models" not in claims:
        return None
    models = claims["slipway_models"]
    if not isinstance(models, list) or not all(isinstance(name, str) for name in models):
        raise refuse_token("its slipway_models is no list of names")
    return frozenset(models)


def _decode(part: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error:
        raise refuse_token("it is no signed token in compact form") from None


def _read_object(data: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object in which no key is given twice, at any depth."""
    try:
        value = parse_json(data)
    except ValueError:
        raise refuse_token(f"its {what} is no strict JSON") from None
    if not isinstance(value, dict):
        raise refuse_token(f"its {what} is no JSON object")
    return value
