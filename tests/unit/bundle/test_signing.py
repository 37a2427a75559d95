import base64
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from slipway.bundle.signing import (
    TrustedKeys,
    make_key_pair,
    open_document,
    sign_document,
    trust,
)
from slipway.errors import ChannelRefused, SlipwayError
from tests.bundles import Keys, make_keys

TYPE = "application/vnd.slipway.test+json"


@pytest.fixture
def keys(tmp_path) -> Keys:
    return make_keys(tmp_path / "keys")


@pytest.fixture
def trusted(keys) -> list[Path]:
    return keys.trusted.keys("release")


@pytest.fixture
def envelope(keys) -> bytes:
    return sign_document(b'{"a": 1}', TYPE, keys.release)


def edited(envelope: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(envelope), **fields}).encode()


def pem(key: object) -> tuple[bytes, bytes]:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


def test_a_signed_document_opens_with_its_public_key(envelope, trusted):
    assert open_document(envelope, TYPE, trusted) == b'{"a": 1}'


def test_the_right_key_is_found_among_several(keys, envelope, tmp_path):
    make_key_pair(tmp_path / "other", "release")
    trust(tmp_path / "other" / "release.pub", keys.trusted_folder, "release")
    assert len(keys.trusted.keys("release")) == 2
    assert open_document(envelope, TYPE, keys.trusted.keys("release")) == b'{"a": 1}'


def test_a_key_of_another_role_opens_nothing(keys, envelope):
    with pytest.raises(ChannelRefused, match="trusted in this role"):
        open_document(envelope, TYPE, keys.trusted.keys("builder"))


def test_a_key_taken_away_is_no_longer_trusted(keys, envelope):
    trusted = keys.trusted
    trusted.keys("release")[0].unlink()
    with pytest.raises(ChannelRefused, match="trusted in this role: none"):
        open_document(envelope, TYPE, trusted.keys("release"))


def test_a_document_of_another_type_is_refused(envelope, trusted):
    with pytest.raises(ChannelRefused, match="expected 'other'"):
        open_document(envelope, "other", trusted)


def test_a_type_changed_after_signing_is_refused(envelope, trusted):
    with pytest.raises(ChannelRefused, match="is not that of key"):
        open_document(edited(envelope, payloadType="other"), "other", trusted)


def test_a_payload_changed_after_signing_is_refused(envelope, trusted):
    forged = edited(envelope, payload=base64.b64encode(b'{"a": 2}').decode())
    with pytest.raises(ChannelRefused, match="is not that of key"):
        open_document(forged, TYPE, trusted)


def test_the_name_of_a_trusted_key_does_not_replace_its_signature(envelope, trusted, tmp_path):
    make_key_pair(tmp_path / "other", "release")
    forged = json.loads(sign_document(b'{"a": 2}', TYPE, tmp_path / "other" / "release.key"))
    forged["signatures"][0]["keyid"] = json.loads(envelope)["signatures"][0]["keyid"]
    with pytest.raises(ChannelRefused, match="is not that of key"):
        open_document(json.dumps(forged).encode(), TYPE, trusted)


def test_one_signature_exactly_is_expected(envelope, trusted):
    signatures = json.loads(envelope)["signatures"]
    for wrong in ([], signatures * 2):
        with pytest.raises(ChannelRefused, match="signatures"):
            open_document(edited(envelope, signatures=wrong), TYPE, trusted)


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"payload": "no base64!"},
        {"payload": None},
        {"payload": base64.b64encode(b'{"a": 1}').decode() + "\n"},
        {"signatures": [{"keyid": "", "sig": ""}]},
        {"signatures": [{"keyid": 7, "sig": ""}]},
        {"signatures": None},
    ],
)
def test_an_envelope_of_another_form_is_refused(envelope, trusted, change):
    with pytest.raises(ChannelRefused):
        open_document(edited(envelope, **change), TYPE, trusted)


@pytest.mark.parametrize("junk", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_junk_is_refused(trusted, junk):
    with pytest.raises(ChannelRefused):
        open_document(junk, TYPE, trusted)


def test_a_key_given_twice_or_text_after_the_end_is_refused(envelope, trusted):
    twice = envelope.replace(b'"payload":', b'"payload": "", "payload":', 1)
    for wrong in (twice, envelope + b"{}"):
        with pytest.raises(ChannelRefused):
            open_document(wrong, TYPE, trusted)


def test_no_flipped_byte_of_an_envelope_changes_the_document(envelope, trusted):
    for place in range(len(envelope)):
        flipped = bytearray(envelope)
        flipped[place] ^= 1
        try:
            assert open_document(bytes(flipped), TYPE, trusted) == b'{"a": 1}'
        except ChannelRefused:
            continue


def test_keys_are_made_once_and_readable_by_their_owner_only(tmp_path):
    old = os.umask(0)
    try:
        make_key_pair(tmp_path, "builder")
    finally:
        os.umask(old)
    private = tmp_path / "builder.key"
    before = private.read_bytes()
    make_key_pair(tmp_path, "builder")
    assert private.read_bytes() == before
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["builder.key", "builder.pub"]


def test_programs_that_start_at_once_go_on_with_the_same_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: make_key_pair(tmp_path, "builder"), range(16)))
    trust(tmp_path / "builder.pub", tmp_path / "trusted", "builder")
    envelope = sign_document(b"x", TYPE, tmp_path / "builder.key")
    assert open_document(envelope, TYPE, TrustedKeys(tmp_path / "trusted").keys("builder")) == b"x"


def test_a_lost_public_key_is_written_again(keys):
    public = keys.folder / "builder.pub"
    before = public.read_bytes()
    public.unlink()
    make_key_pair(keys.folder, "builder")
    assert public.read_bytes() == before


def test_a_public_key_of_another_pair_is_said(keys):
    (keys.folder / "builder.pub").write_bytes((keys.folder / "release.pub").read_bytes())
    with pytest.raises(SlipwayError, match="is not the public key of"):
        make_key_pair(keys.folder, "builder")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_private_key_that_others_may_read_signs_nothing(keys, mode):
    keys.release.chmod(mode)
    with pytest.raises(SlipwayError, match="chmod 600"):
        sign_document(b"x", TYPE, keys.release)


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["ed25519", "P-384", "secp256k1"],
)
def test_a_key_of_another_kind_neither_signs_nor_is_trusted(keys, tmp_path, key):
    private, public = pem(key)
    (tmp_path / "k.key").write_bytes(private)
    (tmp_path / "k.key").chmod(0o600)
    (tmp_path / "k.pub").write_bytes(public)
    with pytest.raises(SlipwayError, match="EC P-256"):
        sign_document(b"x", TYPE, tmp_path / "k.key")
    with pytest.raises(SlipwayError, match="EC P-256"):
        trust(tmp_path / "k.pub", keys.trusted_folder, "builder")
    (keys.trusted_folder / "builder" / "k.pub").write_bytes(public)
    with pytest.raises(SlipwayError, match="EC P-256"):
        TrustedKeys.load(keys.trusted_folder)


@pytest.mark.parametrize("junk", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"\0" * 100])
def test_a_file_that_is_no_key_is_said(tmp_path, junk):
    path = tmp_path / "x.key"
    path.write_bytes(junk)
    path.chmod(0o600)
    with pytest.raises(SlipwayError, match=r"x\.key: no readable private key"):
        sign_document(b"x", TYPE, path)
    with pytest.raises(SlipwayError, match=r"x\.key: no readable public key"):
        trust(path, tmp_path / "trusted", "builder")


def test_trust_names_a_key_by_its_id(keys, envelope):
    named = json.loads(envelope)["signatures"][0]["keyid"]
    assert [path.stem for path in keys.trusted.keys("release")] == [named]
