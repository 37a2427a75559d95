"""Keys and signatures: who may vouch for a bundle, and who may say what serves.

Bundles are signed in the OpenSSF model-signing format by its reference implementation.
They are checked here, for three reasons: the check works on the bytes that are loaded
afterwards, not on files that may change in between; it admits one strict form where the
library takes what the signature itself asks for (ignored paths, symbolic links, an older
encoding); and a host need not import the library's dependencies. Channels and leases are
plain DSSE envelopes (https://github.com/secure-systems-lab/dsse).
"""

import base64
import binascii
import hashlib
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from slipway.bundle.format import Document, canonical_json, parse_document, refused, write_durably
from slipway.bundle.manifest import SIGNATURE
from slipway.errors import ChannelRefused, SlipwayError

Role = Literal["builder", "release"]
"""Builders vouch for bundles, release keys say what serves; neither can do the other's work."""

STATEMENT_TYPE = "application/vnd.in-toto+json"


class _Wire(Document):
    """A part of what DSSE, Sigstore and in-toto define: camelCase in JSON."""

    model_config = ConfigDict(alias_generator=to_camel)


class _Signature(_Wire):
    sig: str
    keyid: str = ""


class _Envelope(_Wire):
    """A DSSE envelope with exactly one signature: two would raise the question which counts."""

    payload: str
    payload_type: str
    signatures: list[_Signature] = Field(min_length=1, max_length=1)


class _PublicKeyHint(_Wire):
    hint: str


class _Material(_Wire):
    public_key: _PublicKeyHint
    tlog_entries: list[None] = Field(default=[], max_length=0)


class _BundleSignature(_Wire):
    """A Sigstore bundle as model-signing writes it for a key."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: _Material
    dsse_envelope: _Envelope


class _Serialization(Document):
    """How model-signing walked the folder: everything but the signature, links refused."""

    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: Literal[False]
    ignore_paths: list[Literal["bundle.sig"]] = Field(min_length=1, max_length=1)


class _Resource(Document):
    name: str
    algorithm: Literal["sha256"]
    digest: str


class _Predicate(Document):
    serialization: _Serialization
    resources: list[_Resource]


class _Statement(BaseModel):
    """The in-toto statement that is signed; its subject repeats the resources in one digest."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, alias_generator=to_camel)

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicate_type: Literal["https://model_signing/signature/v1.0"]
    predicate: _Predicate


@dataclass(frozen=True)
class TrustedKeys:
    """The public keys that a host or a person trusts, by role.

    Listed anew at each use, so that a key taken away is no longer trusted at once.
    """

    folder: Path
    """Holds `<role>/<key id>.pub`."""

    @classmethod
    def load(cls, folder: Path) -> "TrustedKeys":
        """Name a folder of trusted keys; raise SlipwayError when one of them is no P-256 key."""
        trusted = cls(folder)
        for role in get_args(Role):
            for path in trusted.keys(role):
                _public_key(path)
        return trusted

    def keys(self, role: Role) -> list[Path]:
        """List the public keys of a role."""
        return sorted((self.folder / role).glob("*.pub"))


def make_key_pair(folder: Path, role: Role) -> None:
    """Make `<role>.key` and `<role>.pub` unless they exist.

    The private key never exists with a wider mode than 0600, nor half-written, and is never
    replaced: of two programs that start at once, both go on with the same key.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = folder / f"{role}.key"
    if not private.exists():
        _create_private(private)
    public = _load_private_key(private).public_key()
    path = folder / f"{role}.pub"
    if not path.exists():
        write_durably(path, _pem(public))
    elif path.read_bytes() != _pem(public):
        raise SlipwayError(f"{path}: is not the public key of {private}; remove it to renew it")


def trust(public_key: Path, folder: Path, role: Role) -> None:
    """Copy a public key to where a host trusts it for one role, under its key id."""
    pem = _pem(_public_key(public_key))
    (folder / role).mkdir(parents=True, exist_ok=True)
    write_durably(folder / role / f"{_key_id(pem)}.pub", pem)


def sign_bundle(folder: Path, private_key: Path) -> None:
    """Sign every file of a bundle, then check with the reference implementation that it reads so.

    Strict on both sides: by default it would leave `.git` and its like unsigned.
    """
    from model_signing import hashing, signing, verifying  # 0.4 s, and hosts never sign

    key = _load_private_key(private_key)
    hasher: Any = hashing.Config
    signer: Any = signing.Config
    verifier: Any = verifying.Config  # Any: the library leaves their constructors untyped
    strict = hasher().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    with tempfile.TemporaryDirectory() as aside:
        draft, public = Path(aside) / SIGNATURE, Path(aside) / "key.pub"
        public.write_bytes(_pem(key.public_key()))
        sign = signer().use_elliptic_key_signer(private_key=private_key)
        sign.set_hashing_config(strict).sign(folder, draft)
        verify = verifier().use_elliptic_key_verifier(public_key=public)
        verify.set_hashing_config(strict).verify(folder, draft)
        write_durably(folder / SIGNATURE, draft.read_bytes())


def open_signature(signature: bytes, keys: list[Path]) -> tuple[dict[str, str], str]:
    """Return the digests that a bundle's signature vouches for, by file, and the key's id."""
    with refused(SIGNATURE):
        parsed = parse_document(_BundleSignature, signature)
        key_id = parsed.verification_material.public_key.hint
        _check(parsed.dsse_envelope, STATEMENT_TYPE, key_id, keys)
        return _digests(parsed), key_id


def claimed_digests(signature: bytes) -> dict[str, str]:
    """Return the digests that a signature names, without asking who signed it."""
    with refused(SIGNATURE):
        return _digests(parse_document(_BundleSignature, signature))


def sign_document(document: bytes, payload_type: str, private_key: Path) -> bytes:
    """Put a document into a signed DSSE envelope."""
    key = _load_private_key(private_key)
    signature = key.sign(_pae(payload_type, document), ec.ECDSA(hashes.SHA256()))
    envelope = {
        "payload": base64.b64encode(document).decode(),
        "payloadType": payload_type,
        "signatures": [
            {"keyid": _key_id(_pem(key.public_key())), "sig": base64.b64encode(signature).decode()}
        ],
    }
    return canonical_json(envelope)


def open_document(envelope: bytes, payload_type: str, keys: list[Path]) -> bytes:
    """Return the document in an envelope that one of the keys has signed."""
    try:
        parsed = parse_document(_Envelope, envelope)
        return _check(parsed, payload_type, parsed.signatures[0].keyid, keys)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ChannelRefused(f"signed envelope: {reason}") from None


def _check(envelope: _Envelope, payload_type: str, key_id: str, keys: list[Path]) -> bytes:
    """Return the payload if the named key is trusted and signed it; raise ValueError if not."""
    if envelope.payload_type != payload_type:
        raise ValueError(f"holds {envelope.payload_type!r}, expected {payload_type!r}")
    payload = _decode(envelope.payload, "payload")
    signature = _decode(envelope.signatures[0].sig, "signature")
    trusted = {_key_id(_pem(key)): key for key in map(_public_key, keys)}
    if key_id not in trusted:
        known = ", ".join(name[:12] for name in sorted(trusted)) or "none"
        raise ValueError(f"signed by key {key_id[:12]!r}, trusted in this role: {known}")
    try:
        trusted[key_id].verify(signature, _pae(payload_type, payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ValueError(f"the signature is not that of key {key_id[:12]}") from None
    return payload


def _digests(signature: _BundleSignature) -> dict[str, str]:
    payload = _decode(signature.dsse_envelope.payload, "payload")
    resources = parse_document(_Statement, payload).predicate.resources
    digests = {resource.name: resource.digest for resource in resources}
    if len(digests) != len(resources):
        raise ValueError("names a file twice")
    return digests


def _pae(payload_type: str, payload: bytes) -> bytes:
    """Encode type and payload so that neither can be taken for the other (DSSE v1)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _decode(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{what} is no base64") from None


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form)


def _key_id(pem: bytes) -> str:
    """Return the key id as model-signing defines its hint: SHA-256 of the PEM."""
    return hashlib.sha256(pem).hexdigest()


def _public_key(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SlipwayError(f"{path}: no readable public key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SlipwayError(f"{path}: must be an EC P-256 public key")
    return key


def _load_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise SlipwayError(f"{path}: others may read it (mode {mode:04o}); chmod 600 it")
        key: Any = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SlipwayError(f"{path}: no readable private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SlipwayError(f"{path}: must be an EC P-256 private key")
    return key


def _create_private(path: Path) -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # another program that was faster made a key that is as good
    with suppress(FileExistsError):
        write_durably(path, pem, exclusive=True, mode=0o600)
