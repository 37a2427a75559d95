"""A self-signed certificate for this machine."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


def make_certificate(
    folder: Path,
    name: str = "localhost",
    *,
    begins: datetime.datetime | None = None,
    ends: datetime.datetime | None = None,
    kind: str = "ec",
    password: bytes | None = None,
) -> tuple[Path, Path]:
    """Write a certificate that is its own authority, and its key; return where they are.

    It counts from now for thirty days. A pair that is there is replaced, each file in one step.
    """
    now = datetime.datetime.now(datetime.UTC)
    key = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "ec"
        else rsa.generate_private_key(65537, 2048)
    )
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - datetime.timedelta(minutes=5))
        .not_valid_after(ends or now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(here), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        hidden = serialization.BestAvailableEncryption(password)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    chain, secret = folder / "tls.crt", folder / "tls.key"
    for file, data in (
        (chain, certificate.public_bytes(serialization.Encoding.PEM)),
        (secret, pem),
    ):
        draft = folder / "draft"
        draft.touch(0o600)
        draft.write_bytes(data)
        draft.replace(file)
    return chain, secret
