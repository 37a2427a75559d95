"""Tokens as attackers have made them elsewhere, each refused; and those that are right."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from slipway.errors import SlipwayError
from slipway.host.guard.caller import Caller
from slipway.host.guard.claims import LATEST, Expected, read_header
from slipway.host.guard.gate import AccessGate, Sources
from slipway.host.guard.keys import ApiKey, add_key, digest
from slipway.host.guard.tokens import REMEMBERED, Tokens, read_jwks
from slipway.host.request.refusal import RequestRefused

NOW = 1_800_000_000.0
EC = ec.generate_private_key(ec.SECP256R1())
EC_384 = ec.generate_private_key(ec.SECP384R1())
RSA = rsa.generate_private_key(65537, 2048)
RSA_SHORT = rsa.generate_private_key(65537, 1024)
ED = ed25519.Ed25519PrivateKey.generate()
CLAIMS = {
    "sub": "shop",
    "aud": "slipway",
    "iss": "https://id.example",
    "exp": NOW + 300,
    "scope": "infer metadata",
}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public_jwk(key: Any, kid: str, **given: Any) -> dict[str, Any]:
    kind = {"Ed": OKPAlgorithm, "RS": RSAAlgorithm, "EC": ECAlgorithm, "El": ECAlgorithm}
    algorithm = next(a for prefix, a in kind.items() if type(key).__name__.startswith(prefix))
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **given}


def sign(claims: str | dict[str, Any] = CLAIMS, header: str | dict[str, Any] | None = None) -> str:
    """Sign any bytes with ES256: PyJWT would refuse to write most of what is tried here."""
    header = (
        header if isinstance(header, str) else json.dumps(header or {"alg": "ES256", "kid": "a"})
    )
    claims = claims if isinstance(claims, str) else json.dumps(claims)
    text = f"{b64(header.encode())}.{b64(claims.encode())}"
    signature = jwt.get_algorithm_by_name("ES256").sign(text.encode(), EC)
    return f"{text}.{b64(signature)}"


def claims(**changed: Any) -> dict[str, Any]:
    return {key: value for key, value in {**CLAIMS, **changed}.items() if value is not ...}


def head(**changed: Any) -> dict[str, Any]:
    header = {"alg": "ES256", "kid": "a", "typ": "JWT", **changed}
    return {key: value for key, value in header.items() if value is not ...}


def write_jwks(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"keys": entries}))
    path.chmod(0o644)
    return path


class Wall:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def sources(tmp_path) -> Sources:
    jwks = write_jwks(tmp_path / "jwks.json", public_jwk(EC, "a"))
    return Sources(jwks=jwks, expected=Expected("ES256", "slipway", "https://id.example"))


@pytest.fixture
def gate(sources, wall) -> AccessGate:
    return AccessGate(sources, wall)


def identify(gate: AccessGate, token: str) -> Caller:
    return gate.identify(b"Bearer " + token.encode())


def reason(gate: AccessGate, token: str) -> str:
    with pytest.raises(RequestRefused) as refused:
        identify(gate, token)
    assert refused.value.code == "unauthenticated"
    return refused.value.message


def test_a_good_token_says_who_asks_what_for_and_until_when(gate):
    token = sign(claims(scope="infer openid", slipway_models=["flights"]))
    assert identify(gate, token) == Caller(
        "token:shop", frozenset({"infer"}), frozenset({"flights"}), NOW + 360
    )


@pytest.mark.parametrize(("algorithm", "key"), [("ES256", EC), ("RS256", RSA), ("EdDSA", ED)])
def test_each_algorithm_verifies_what_another_library_call_signed(tmp_path, wall, algorithm, key):
    jwks = write_jwks(tmp_path / "jwks.json", public_jwk(key, "k.1_-"))
    gate = AccessGate(
        Sources(jwks=jwks, expected=Expected(algorithm, "slipway", CLAIMS["iss"])), wall
    )
    token = jwt.encode(
        {**CLAIMS, "exp": int(NOW) + 9}, key, algorithm, headers={"kid": "k.1_-", "typ": "at+JWT"}
    )
    assert identify(gate, token).id == "token:shop"
    assert "signature" in reason(gate, token[:-6] + "AAAAAA")


def test_without_the_claims_a_token_has_every_model_and_no_scope(gate):
    caller = identify(gate, sign(claims(scope=...)))
    assert (caller.models, caller.scopes) == (None, frozenset())
    with pytest.raises(RequestRefused) as refused:
        caller.permit("infer", "flights")
    assert refused.value.code == "forbidden"


def hmac_token(secret: bytes, algorithm: str = "HS256") -> str:
    text = f"{b64(json.dumps(head(alg=algorithm)).encode())}.{b64(json.dumps(CLAIMS).encode())}"
    return f"{text}.{b64(hmac.digest(secret, text.encode(), 'sha256'))}"


def public_pem() -> bytes:
    return EC.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def unsigned(algorithm: str) -> str:
    return f"{b64(json.dumps(head(alg=algorithm)).encode())}.{b64(json.dumps(CLAIMS).encode())}."


def with_exp(text: str) -> str:
    """Write claims whose exp is a number that no library would write."""
    return json.dumps(claims(exp=...))[:-1] + f',"exp":{text}}}'


FORGED: dict[str, dict[str, Callable[[], str]]] = {
    "it is no signed token in compact form": {
        "alg none, no signature": lambda: unsigned("none"),
        "alg None": lambda: unsigned("None"),
        "alg ES256, no signature": lambda: unsigned("ES256"),
        "two parts": lambda: sign().rpartition(".")[0],
        "four parts": lambda: sign() + ".AAAA",
        "padding": lambda: sign() + "=",
        "standard base64": lambda: sign().replace("-", "+").replace("_", "/") + "+",
    },
    "its alg is not the one expected here": {
        "alg none, a signature": lambda: sign(header=head(alg="none")),
        "HS256 signed with the public key": lambda: hmac_token(public_pem()),
        "HS256 signed with the key's path": lambda: hmac_token(b"/etc/slipway/jwks.json"),
        "HS256 signed with nothing": lambda: hmac_token(b""),
        "another algorithm": lambda: sign(header=head(alg="ES384")),
        "lower case": lambda: sign(header=head(alg="es256")),
        "alg is a list": lambda: sign(header=head(alg=["ES256"])),
        "no alg": lambda: sign(header=head(alg=...)),
    },
    "its signature is wrong": {
        "HMAC that says ES256": lambda: hmac_token(public_pem(), "ES256"),
        "signature of another token": lambda: (
            sign(claims(sub="root")).rpartition(".")[0] + "." + sign().rpartition(".")[2]
        ),
        "signature of zeros": lambda: sign().rpartition(".")[0] + "." + b64(bytes(64)),
        "signature short": lambda: sign().rpartition(".")[0] + "." + b64(bytes(8)),
    },
    "its header asks for what is not done here": {
        "crit of what is unknown": lambda: sign(header=head(crit=["x"], x=1)),
        "crit empty": lambda: sign(header=head(crit=[])),
        "crit b64": lambda: sign(header=head(crit=["b64"], b64=False)),
        "b64 alone": lambda: sign(header=head(b64=True)),
        "zip": lambda: sign(header=head(zip="DEF")),
        "enc": lambda: sign(header=head(enc="A128GCM")),
    },
    "its kid is missing or malformed": {
        "no kid": lambda: sign(header=head(kid=...)),
        "kid traversal": lambda: sign(header=head(kid="../../dev/null")),
        "kid absolute": lambda: sign(header=head(kid="/dev/null")),
        "kid query": lambda: sign(header=head(kid="a' OR '1'='1")),
        "kid with line feed": lambda: sign(header=head(kid="a\n")),
        "kid null byte": lambda: sign(header=head(kid="a\0")),
        "kid long": lambda: sign(header=head(kid="a" * 129)),
        "kid number": lambda: sign(header=head(kid=1)),
        "kid list": lambda: sign(header=head(kid=["a"])),
    },
    "its kid is not known here": {
        "kid of another": lambda: sign(header=head(kid="b")),
        "embedded key": lambda: sign(header=head(kid="evil", jwk=public_jwk(EC, "evil"))),
        "key by address": lambda: sign(header=head(kid="evil", jku="http://169.254.169.254/")),
    },
    "its typ is not that of an access token": {
        "typ of a logout token": lambda: sign(header=head(typ="logout+jwt")),
        "typ number": lambda: sign(header=head(typ=1)),
    },
    "its header is no strict JSON": {
        "header key twice": lambda: sign(header='{"alg":"none","alg":"ES256","kid":"a"}'),
        "header kid twice": lambda: sign(header='{"alg":"ES256","kid":"b","kid":"a"}'),
        "header no JSON": lambda: sign(header="{"),
        "header deep": lambda: sign(header="[" * 5000),
    },
    "its header is no JSON object": {
        "header list": lambda: sign(header='["ES256"]'),
    },
    "its payload is no strict JSON": {
        "claim twice": lambda: sign(json.dumps(CLAIMS)[:-1] + ', "sub": "root"}'),
        "claim twice, deep inside": lambda: sign(
            json.dumps(CLAIMS)[:-1] + ', "x": [{"a":1,"a":2}]}'
        ),
        "payload no JSON": lambda: sign("x"),
        "payload deep": lambda: sign('{"a":' * 1000),
        "payload no UTF-8": lambda: sign(
            "\udcff".encode("utf-8", "surrogatepass").decode("latin-1")
        ),
        "exp NaN": lambda: sign(claims(exp=float("nan"))),
        "exp Infinity": lambda: sign(claims(exp=float("inf"))),
        "exp of 5000 digits": lambda: sign(with_exp("9" * 5000)),
        "iat NaN": lambda: sign(claims(iat=float("nan"))),
    },
    "its payload is no JSON object": {
        "payload list": lambda: sign("[]"),
    },
    "its exp is missing or no time": {
        "no exp": lambda: sign(claims(exp=...)),
        "exp null": lambda: sign(claims(exp=None)),
        "exp text": lambda: sign(claims(exp="1900000000")),
        "exp true": lambda: sign(claims(exp=True)),
        "exp list": lambda: sign(claims(exp=[NOW + 9])),
        "exp 1e400": lambda: sign(with_exp("1e400")),
        "exp beyond the year 9999": lambda: sign(claims(exp=1e15)),
        "exp of 4000 digits": lambda: sign(with_exp("9" * 4000)),
        "exp negative": lambda: sign(claims(exp=-1)),
    },
    "it has expired": {
        "exp past": lambda: sign(claims(exp=NOW - 60)),
    },
    "its nbf is in the future": {
        "nbf future": lambda: sign(claims(nbf=NOW + 61)),
    },
    "its nbf is missing or no time": {
        "nbf text": lambda: sign(claims(nbf="0")),
        "nbf null": lambda: sign(claims(nbf=None)),
    },
    "its iat is in the future": {
        "iat future": lambda: sign(claims(iat=NOW + 61)),
    },
    "its aud is not the one expected here": {
        "aud missing": lambda: sign(claims(aud=...)),
        "aud null": lambda: sign(claims(aud=None)),
        "aud of another": lambda: sign(claims(aud="slipway2")),
        "aud a part of ours": lambda: sign(claims(aud="slip")),
        "aud nested": lambda: sign(claims(aud=[["slipway"]])),
        "aud an object": lambda: sign(claims(aud={"slipway": 1})),
    },
    "its iss is not the one expected here": {
        "iss missing": lambda: sign(claims(iss=...)),
        "iss of another": lambda: sign(claims(iss="https://id.example/")),
        "iss list": lambda: sign(claims(iss=["https://id.example"])),
    },
    "its sub is missing or malformed": {
        "sub missing": lambda: sign(claims(sub=...)),
        "sub empty": lambda: sign(claims(sub="")),
        "sub number": lambda: sign(claims(sub=7)),
        "sub with line feed": lambda: sign(claims(sub="shop\nadmin")),
        "sub long": lambda: sign(claims(sub="a" * 129)),
    },
    "its scope is no text": {
        "scope list": lambda: sign(claims(scope=["infer"])),
    },
    "its slipway_models is no list of names": {
        "models text": lambda: sign(claims(slipway_models="flights")),
        "models null": lambda: sign(claims(slipway_models=None)),
        "models of numbers": lambda: sign(claims(slipway_models=[1])),
    },
    "the Authorization header is no Bearer token": {
        "more than 8 KiB": lambda: sign(claims(x="y" * 8192)),
    },
}


@pytest.mark.parametrize(
    ("said", "name"), [(said, name) for said, ways in FORGED.items() for name in ways]
)
def test_a_token_that_is_not_as_it_must_be_is_refused(gate, said, name):
    assert reason(gate, FORGED[said][name]()).endswith(said)


def test_the_tests_own_signature_is_good(gate):
    assert identify(gate, sign(header=head())).id == "token:shop"


def test_a_huge_exponent_costs_nothing(gate):
    token = sign(with_exp("1e1000000"))
    begun = time.process_time()
    assert "exp is missing or no time" in reason(gate, token)
    assert time.process_time() - begun < 0.010


def test_the_payload_of_a_token_that_is_not_signed_right_is_never_read(gate):
    token = sign("x").rpartition(".")[0] + "." + b64(bytes(64))
    assert reason(gate, token) == "the token is refused: its signature is wrong"


@pytest.mark.parametrize(
    "given",
    [
        {"nbf": NOW + 60, "iat": NOW + 60},
        {"exp": NOW - 59},
        {"exp": NOW + 0.5},
        {"exp": LATEST, "nbf": 0, "iat": 0},
        {"aud": ["other", "slipway"]},
    ],
)
def test_clocks_may_differ_by_a_minute_and_an_audience_may_be_one_of_several(gate, given):
    assert identify(gate, sign(claims(**given))).id == "token:shop"


def long_token(size: int) -> str:
    """Make a good token of so many bytes."""
    rest = len(sign(""))
    for name in ("x", "xx", "xxx"):
        for length in range(size * 3 // 4 - 400, size * 3 // 4):
            text = json.dumps(claims(**{name: "y" * length}))
            if len(b64(text.encode())) + rest == size:
                return sign(text)
    raise AssertionError(size)


def test_a_token_has_at_most_8_kib_at_each_of_the_two_places_that_ask(gate, sources):
    assert identify(gate, long_token(8192)).id == "token:shop"
    assert reason(gate, long_token(8194)) == "the Authorization header is no Bearer token"
    assert reason(gate, "a" * 8193) == "the Authorization header is no Bearer token"
    with pytest.raises(RequestRefused, match="it has more than 8192 bytes"):
        read_header(b"a" * 8193, sources.expected)


def test_a_kid_has_up_to_128_characters(sources, wall):
    write_jwks(sources.jwks, public_jwk(EC, "a" * 128))
    assert identify(AccessGate(sources, wall), sign(header=head(kid="a" * 128))).id == "token:shop"
    with pytest.raises(ValueError, match="kid must be 1 to 128"):
        read_jwks(json.dumps({"keys": [public_jwk(EC, "a" * 129)]}).encode(), "ES256")


def test_a_token_is_remembered_until_it_expires_and_no_longer(gate, wall, monkeypatch):
    token = sign()
    first = identify(gate, token)
    monkeypatch.setattr(Tokens, "_verify", None)  # verifying again would fail
    assert identify(gate, token) is first
    wall.now = first.expires
    assert reason(gate, token) == "the token is refused: it has expired"


def test_the_memory_is_bounded_and_garbage_drives_nothing_out(sources, wall, monkeypatch):
    tokens = Tokens.load(sources.jwks, sources.expected, wall)
    kept = tokens.identify(sign().encode(), b"kept")
    for number in range(50):
        with pytest.raises(RequestRefused):
            tokens.identify(b"x.y.z", b"%d" % number)
    assert len(tokens) == 1
    verified: list[bytes] = []
    monkeypatch.setattr(Tokens, "_verify", lambda self, token: verified.append(token) or kept)
    for number in range(2 * REMEMBERED):
        tokens.identify(b"another", b"%d" % number)
        tokens.identify(b"in use", b"kept")
    assert len(tokens) == REMEMBERED
    assert b"in use" not in verified


def test_a_full_memory_forgets_what_was_not_used_for_longest(sources, wall, monkeypatch):
    tokens = Tokens.load(sources.jwks, sources.expected, wall)
    verified: list[bytes] = []
    kept = Caller("token:shop", expires=NOW + 300)
    monkeypatch.setattr(Tokens, "_verify", lambda self, token: verified.append(token) or kept)
    for number in [*range(REMEMBERED), 0, REMEMBERED]:  # the last drives out the second
        tokens.identify(b"%d" % number, b"%d" % number)
    del verified[:]
    for number in (0, REMEMBERED, 2, 1):
        tokens.identify(b"%d" % number, b"%d" % number)
    assert verified == [b"1"]


def test_a_key_taken_out_of_the_file_ends_its_tokens_at_once(gate, sources):
    token = sign()
    identify(gate, token)
    write_jwks(sources.jwks, public_jwk(ec.generate_private_key(ec.SECP256R1()), "b"))
    gate.poll()
    assert reason(gate, token) == "the token is refused: its kid is not known here"


def test_a_broken_file_of_keys_keeps_the_old_ones(gate, sources):
    sources.jwks.write_text("{")
    gate.poll()
    assert gate.problem
    assert identify(gate, sign()).id == "token:shop"


def test_keys_and_tokens_are_taken_side_by_side(sources, wall, tmp_path):
    path = tmp_path / "api-keys.json"
    add_key(path, ApiKey(id="desk", sha256=digest(b"slw_x"), scopes=("admin",)))
    gate = AccessGate(Sources(path, sources.jwks, sources.expected), wall)
    assert identify(gate, "slw_x").id == "desk"
    assert identify(gate, sign()).id == "token:shop"


def test_a_files_break_leaves_both_files_keys_as_they_were(sources, wall, tmp_path):
    path = tmp_path / "api-keys.json"
    add_key(path, ApiKey(id="desk", sha256=digest(b"slw_x"), scopes=("admin",)))
    gate = AccessGate(Sources(path, sources.jwks, sources.expected), wall)
    add_key(path, ApiKey(id="shop", sha256=digest(b"slw_y"), scopes=("admin",)))
    sources.jwks.write_text("{")
    gate.poll()
    reason(gate, "slw_y")
    assert identify(gate, "slw_x").id == "desk"


@pytest.mark.parametrize(
    ("entry", "algorithm", "said"),
    [
        (public_jwk(EC, "a", d="AA"), "ES256", "holds a private key (d)"),
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "a"}, "ES256", "holds a private key (k)"),
        ({"kty": "oct", "kid": "a"}, "ES256", "takes kty 'EC'"),
        (public_jwk(EC_384, "a"), "ES256", "takes kty 'EC' and crv 'P-256'"),
        (public_jwk(EC, "a"), "RS256", "takes kty 'RSA'"),
        (public_jwk(RSA, "a"), "ES256", "takes kty 'EC'"),
        (public_jwk(EC, "a", alg="ES384"), "ES256", "is not for ES256"),
        (public_jwk(EC, "a", use="enc"), "ES256", "is not for ES256"),
        (public_jwk(EC, "../a"), "ES256", "kid must be"),
        ({k: v for k, v in public_jwk(EC, "a").items() if k != "kid"}, "ES256", "kid must be"),
        (public_jwk(EC, "a", x="AAAA"), "ES256", "'a' is no valid EC key"),
        (public_jwk(EC, "a", x=7), "ES256", "'a' is no valid EC key"),
        (public_jwk(RSA_SHORT, "a"), "RS256", "has 1024 bits"),
        ("a", "ES256", "expected an object"),
    ],
)
def test_a_key_that_could_not_verify_safely_is_refused(entry, algorithm, said):
    with pytest.raises(ValueError, match=r"keys\.0: ") as refused:
        read_jwks(json.dumps({"keys": [entry]}).encode(), algorithm)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"keys": []}', '{"keys": {}}', '{"keys":[],"keys":[]}']
)
def test_a_file_without_keys_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        read_jwks(text.encode(), "ES256")


def test_every_problem_of_the_file_is_said_at_once_with_its_name(tmp_path):
    entries = (public_jwk(EC, "a"), public_jwk(EC, "a"), public_jwk(RSA, "b"))
    path = write_jwks(tmp_path / "jwks.json", *entries)
    with pytest.raises(SlipwayError) as refused:
        Tokens.load(path, Expected("ES256", "slipway", "x"))
    told = str(refused.value)
    assert told.startswith(f"{path}: keys.1: kid 'a' is given to two keys; keys.2: ")


def test_public_keys_that_others_could_change_are_refused(sources):
    sources.jwks.chmod(0o664)
    with pytest.raises(SlipwayError, match="others could change it"):
        Tokens.load(sources.jwks, sources.expected)


def test_what_is_remembered_is_a_digest_and_no_token(gate):
    token = sign()
    identify(gate, token)
    (kept,) = gate._tokens._remembered
    assert kept == hashlib.sha256(token.encode()).digest()
