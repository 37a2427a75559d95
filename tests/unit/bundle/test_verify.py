import base64
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import model_signing
import pytest

from slipway.bundle.format import canonical_json
from slipway.bundle.manifest import EVIDENCE_FILES, PAYLOAD_FILES, write_manifest
from slipway.bundle.session import open_session
from slipway.bundle.signing import make_key_pair, sign_bundle, trust
from slipway.bundle.verify import check_here, verify_bundle
from slipway.errors import BundleRefused
from tests.bundles import (
    CPU,
    Keys,
    make_bundle,
    make_keys,
    make_model,
    write_first_manifest,
)

FILES = (*PAYLOAD_FILES, *EVIDENCE_FILES, "manifest.json", "bundle.sig")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Keys]:
    folder = tmp_path_factory.mktemp("made")
    keys = make_keys(folder / "keys")
    make_bundle(folder / "bundle", keys=keys)
    return folder / "bundle", keys


@pytest.fixture
def keys(made, tmp_path) -> Keys:
    shutil.copytree(made[1].folder, tmp_path / "keys")
    return Keys(tmp_path / "keys")


@pytest.fixture
def bundle(made, tmp_path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "bundle"))


def refusal(bundle: Path, keys: Keys) -> str:
    with pytest.raises(BundleRefused) as caught:
        verify_bundle(bundle, keys.trusted)
    return str(caught.value)


def flip(path: Path, place: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def edit_signature(bundle: Path, edit) -> None:
    """Rewrite the signature file; `edit` gets it as a dict."""
    signature = json.loads((bundle / "bundle.sig").read_bytes())
    edit(signature)
    (bundle / "bundle.sig").write_text(json.dumps(signature))


def statement(signature: dict) -> dict:
    return json.loads(base64.b64decode(signature["dsseEnvelope"]["payload"]))


# --- What is accepted


def test_a_bundle_signed_by_a_trusted_builder_is_accepted(bundle, keys):
    verified = verify_bundle(bundle, keys.trusted)
    assert verified.manifest.version == verified.proof["version"]
    assert verified.contract.model == verified.gates["model"] == "flights"
    assert verified.key_id == keys.trusted.keys("builder")[0].stem
    assert verified.golden.rows == 40


def test_it_runs_here_as_it_was_proven(bundle, keys):
    verified = verify_bundle(bundle, keys.trusted)
    result = check_here(verified, open_session(verified.model, CPU, threads=1))
    assert (result.rows, result.passed) == (40, True)


def test_a_bundle_may_be_moved(bundle, keys):
    moved = bundle.rename(bundle.with_name("elsewhere"))
    assert verify_bundle(moved, keys.trusted).folder == moved


def test_the_model_is_the_bytes_that_were_checked_whatever_happens_to_the_file(bundle, keys):
    model = (bundle / "model.onnx").read_bytes()
    verified = verify_bundle(bundle, keys.trusted)
    (bundle / "model.onnx").write_bytes(make_model(bias=9.0))
    assert verified.model == model


def test_the_reference_implementation_accepts_it_in_strict_settings(bundle, keys):
    hashing = model_signing.hashing.Config()
    hashing.set_ignored_paths(paths=["bundle.sig"], ignore_git_paths=False)
    verifier = model_signing.verifying.Config().set_hashing_config(hashing)
    verifier.use_elliptic_key_verifier(public_key=keys.folder / "builder.pub")
    verifier.verify(bundle, bundle / "bundle.sig")
    (bundle / ".gitattributes").touch()
    with pytest.raises(ValueError, match="gitattributes"):
        verifier.verify(bundle, bundle / "bundle.sig")


# --- The folder


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_in_any_file_is_refused(bundle, keys, name):
    size = (bundle / name).stat().st_size
    for place in (0, size // 2, size - 2):
        flip(bundle / name, place)
        assert name in refusal(bundle, keys) or name == "manifest.json"
        flip(bundle / name, place)
    verify_bundle(bundle, keys.trusted)


def test_a_bundle_of_the_first_format_is_still_verified_and_run(bundle, keys):
    (bundle / "bundle.sig").unlink()
    version = write_first_manifest(bundle, "flights")["version"]
    proof = json.loads((bundle / "proof.json").read_bytes())
    (bundle / "proof.json").write_bytes(canonical_json({**proof, "version": version}))
    write_first_manifest(bundle, "flights")
    sign_bundle(bundle, keys.builder)
    verified = verify_bundle(bundle, keys.trusted)
    assert verified.manifest.version == version
    assert check_here(verified, open_session(verified.model, CPU, 1)).passed


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle, keys, name):
    (bundle / name).unlink()
    assert f"{name} is missing" in refusal(bundle, keys)


@pytest.mark.parametrize("name", FILES)
def test_a_longer_or_shorter_file_is_refused(bundle, keys, name):
    data = (bundle / name).read_bytes()
    for wrong in (data + b"x", data[:-2], b""):
        (bundle / name).write_bytes(wrong)
        refusal(bundle, keys)


def test_the_true_size_of_a_longer_file_is_said(bundle, keys):
    (bundle / "card.md").write_bytes(bytes(12_345))
    assert "card.md: 12,345 bytes, expected at most" in refusal(bundle, keys)


def test_a_manifest_that_lies_about_a_size_is_refused_though_signed(bundle, keys):
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["evidence"]["card.md"]["bytes"] += 1
    (bundle / "manifest.json").write_bytes(canonical_json(manifest))
    sign_bundle(bundle, keys.builder)
    assert "card.md: 22 bytes, the manifest says 23" in refusal(bundle, keys)


@pytest.mark.parametrize("name", ["x", ".git", ".gitattributes", ".gitignore", "model.onnx.data"])
def test_a_further_file_is_refused(bundle, keys, name):
    (bundle / name).touch()
    assert f"{name!r} does not belong to a bundle" in refusal(bundle, keys)


@pytest.mark.parametrize("name", ["empty", ".git/x", ".github/x", "sub/model.onnx"])
def test_a_folder_inside_is_refused(bundle, keys, name):
    path = bundle / name
    path.mkdir(parents=True)
    assert "does not belong to a bundle" in refusal(bundle, keys)


@pytest.mark.parametrize("name", FILES)
def test_a_symbolic_link_is_refused(bundle, keys, name):
    aside = bundle.parent / "aside"
    (bundle / name).rename(aside)
    (bundle / name).symlink_to(aside)
    assert f"{name}: must be a regular file" in refusal(bundle, keys)


@pytest.mark.parametrize("name", FILES)
def test_a_second_hard_link_is_refused(bundle, keys, name):
    os.link(bundle / name, bundle.parent / "aside")
    assert f"{name}: has 2 hard links" in refusal(bundle, keys)


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused(bundle, keys, name):
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    assert f"{name}: must be a regular file" in refusal(bundle, keys)
    (bundle / name).unlink()
    (bundle / name).mkdir()
    assert name in refusal(bundle, keys)


def test_no_folder_is_refused(tmp_path, keys):
    assert "No such file" in refusal(tmp_path / "nothing", keys)


@pytest.mark.parametrize("name", ["manifest.json", "bundle.sig"])
def test_a_key_given_twice_is_refused(bundle, keys, name):
    path = bundle / name
    path.write_bytes(path.read_bytes().replace(b"{", b'{"name": "a", "name": "b", ', 1))
    assert f"{name}: key 'name' is given twice" in refusal(bundle, keys)


@pytest.mark.parametrize("name", ["contract.json", "gates.json", "proof.json"])
def test_a_key_given_twice_is_refused_though_signed(bundle, keys, name):
    path = bundle / name
    path.write_bytes(path.read_bytes().replace(b"{", b'{"model": "a", "model": "b", ', 1))
    write_manifest(bundle, "flights")
    sign_bundle(bundle, keys.builder)
    assert f"{name}: key 'model' is given twice" in refusal(bundle, keys)


# --- The signature


def test_files_swapped_together_with_the_manifest_are_refused(bundle, keys):
    (bundle / "lineage.json").write_text("{}")
    write_manifest(bundle, "flights")
    said = refusal(bundle, keys)
    assert said == "bundle.sig: vouches for other contents of: lineage.json, manifest.json"


def test_the_signature_of_another_bundle_is_refused(bundle, keys, tmp_path):
    make_bundle(tmp_path / "other", keys=keys, bias=1.0)
    shutil.copy(tmp_path / "other" / "bundle.sig", bundle)
    assert "model.onnx" in refusal(bundle, keys)


def test_a_builder_that_is_not_trusted_is_refused(bundle, keys, tmp_path):
    make_key_pair(tmp_path / "stranger", "builder")
    sign_bundle(bundle, tmp_path / "stranger" / "builder.key")
    assert "bundle.sig: signed by key" in refusal(bundle, keys)


def test_a_release_key_does_not_vouch_for_a_bundle(bundle, keys):
    sign_bundle(bundle, keys.release)
    assert "bundle.sig: signed by key" in refusal(bundle, keys)


def test_the_name_of_a_trusted_key_does_not_replace_its_signature(bundle, keys, tmp_path):
    make_key_pair(tmp_path / "stranger", "builder")
    sign_bundle(bundle, tmp_path / "stranger" / "builder.key")
    trusted = keys.trusted.keys("builder")[0].stem
    edit_signature(
        bundle, lambda s: s["verificationMaterial"]["publicKey"].__setitem__("hint", trusted)
    )
    assert "is not that of key" in refusal(bundle, keys)


def test_a_revoked_key_is_refused_and_a_second_one_accepted(bundle, keys, tmp_path):
    make_key_pair(tmp_path / "second", "builder")
    trust(tmp_path / "second" / "builder.pub", keys.trusted_folder, "builder")
    verify_bundle(bundle, keys.trusted)
    sign_bundle(bundle, tmp_path / "second" / "builder.key")
    second = verify_bundle(bundle, keys.trusted).key_id
    (keys.trusted_folder / "builder" / f"{second}.pub").unlink()
    assert "bundle.sig: signed by key" in refusal(bundle, keys)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"junk",
        b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}',
        b'{"verificationMaterial": {}, "dsseEnvelope": {"signatures": []}}',
    ],
)
def test_a_junk_signature_is_refused(bundle, keys, junk):
    (bundle / "bundle.sig").write_bytes(junk)
    assert refusal(bundle, keys).startswith("bundle.sig: ")


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: s["dsseEnvelope"].update(signatures=[]),
        lambda s: s["dsseEnvelope"].update(signatures=s["dsseEnvelope"]["signatures"] * 2),
        lambda s: s["dsseEnvelope"].update(payloadType="application/json"),
        lambda s: s["dsseEnvelope"].update(payload=""),
        lambda s: s["dsseEnvelope"].pop("payload"),
        lambda s: s["verificationMaterial"]["publicKey"].pop("hint"),
        lambda s: s["verificationMaterial"].update(tlogEntries=[{}]),
        lambda s: s.update(mediaType="application/vnd.dev.sigstore.bundle.v0.1+json"),
        lambda s: s.update(dsse_envelope=s["dsseEnvelope"]),
    ],
)
def test_a_signature_of_another_form_is_refused(bundle, keys, edit):
    edit_signature(bundle, edit)
    assert refusal(bundle, keys).startswith("bundle.sig: ")


@pytest.mark.parametrize(
    "config",
    [
        lambda hashing: hashing.set_ignored_paths(paths=["bundle.sig", "card.md"]),
        lambda hashing: hashing.set_ignored_paths(paths=["bundle.sig"]),
        lambda hashing: hashing.set_ignored_paths(
            paths=["bundle.sig"], ignore_git_paths=False
        ).set_allow_symlinks(True),
        lambda hashing: hashing.use_shard_serialization().set_ignored_paths(
            paths=["bundle.sig"], ignore_git_paths=False
        ),
        lambda hashing: hashing.use_file_serialization(
            hashing_algorithm="blake2"
        ).set_ignored_paths(paths=["bundle.sig"], ignore_git_paths=False),
    ],
    ids=["a file ignored", "git paths ignored", "links allowed", "by shards", "another hash"],
)
def test_a_true_signature_in_lax_settings_is_refused(bundle, keys, config):
    signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=keys.builder)
    lax = config(model_signing.hashing.Config())
    (bundle / "bundle.sig").unlink()
    signer.set_hashing_config(lax).sign(bundle, bundle / "bundle.sig")
    assert refusal(bundle, keys).startswith("bundle.sig: predicate")


def test_the_signature_covers_every_other_file(bundle):
    signature = json.loads((bundle / "bundle.sig").read_bytes())
    names = {r["name"] for r in statement(signature)["predicate"]["resources"]}
    assert names == set(FILES) - {"bundle.sig"}


# --- What the documents say


def resigned(bundle: Path, keys: Keys, name: str, edit) -> str:
    """Change a document as its builder could, and return why it is refused all the same."""
    value = json.loads((bundle / name).read_bytes())
    edit(value)
    (bundle / name).write_bytes(canonical_json(value))
    version = write_manifest(bundle, "flights").version
    if name != "proof.json":
        proof = json.loads((bundle / "proof.json").read_bytes())
        (bundle / "proof.json").write_bytes(canonical_json({**proof, "version": version}))
        write_manifest(bundle, "flights")
    sign_bundle(bundle, keys.builder)
    return refusal(bundle, keys)


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("proof.json", lambda p: p.update(verdict="fail"), "the verdict is fail"),
        ("proof.json", lambda p: p.update(verdict="PASS"), "proof.json: verdict"),
        ("proof.json", lambda p: p.update(version="0" * 64), "proves version"),
        ("proof.json", lambda p: p["gates"][0].update(verdict="fail"), "failed gates: parity"),
        ("proof.json", lambda p: p.update(gates=[]), "proof.json: gates"),
        ("proof.json", lambda p: p.update(precision="int8-static"), "different precisions"),
        ("proof.json", lambda p: p.update(provider="CUDAExecutionProvider"), "proven on CUDA"),
        ("gates.json", lambda g: g["precisions"]["fp32"].update(verdict="fail"), "did not pass"),
        ("gates.json", lambda g: g.update(chosen="int8-static"), "did not pass"),
        ("gates.json", lambda g: g.update(model="ships"), "different models"),
        ("contract.json", lambda c: c.update(model="ships"), "different models"),
        ("contract.json", lambda c: c.update(precision="fp16"), "different precisions"),
        ("contract.json", lambda c: c["inputs"].pop(), "not the contract's inputs"),
        ("contract.json", lambda c: c.pop("max_rows"), "contract.json: max_rows"),
    ],
)
def test_a_bundle_whose_documents_do_not_prove_it_is_refused(bundle, keys, name, edit, said):
    assert said in resigned(bundle, keys, name, edit)


def test_a_latency_that_says_why_a_precision_was_chosen_refuses_nothing(bundle, keys):
    proof = json.loads((bundle / "proof.json").read_bytes())
    slow = {"gate": "p50 as a share of fp32's", "precision": "fp32", "verdict": "fail"}
    proof["gates"].append(slow)
    (bundle / "proof.json").write_bytes(canonical_json(proof))
    write_manifest(bundle, "flights")
    sign_bundle(bundle, keys.builder)
    assert verify_bundle(bundle, keys.trusted).proof["gates"][-1] == slow


# --- This machine


def test_answers_outside_the_tolerance_are_refused_with_the_numbers(tmp_path):
    keys = make_keys(tmp_path / "keys")
    make_bundle(tmp_path / "bundle", keys=keys, shift=0.01)
    verified = verify_bundle(tmp_path / "bundle", keys.trusted)
    session = open_session(verified.model, CPU, threads=1)
    with pytest.raises(BundleRefused, match=r"probability: off by up to 0\.01, tolerance 1e-05"):
        check_here(verified, session)


def test_a_machine_with_too_little_memory_is_refused(tmp_path):
    keys = make_keys(tmp_path / "keys")
    make_bundle(tmp_path / "bundle", keys=keys, memory_bytes=10**18)
    verified = verify_bundle(tmp_path / "bundle", keys.trusted)
    session = open_session(verified.model, CPU, threads=1)
    with pytest.raises(BundleRefused, match="requires 1,000,000,000,000,000,000 bytes"):
        check_here(verified, session)


def test_a_session_on_another_provider_is_refused(bundle, keys):
    verified = verify_bundle(bundle, keys.trusted)
    session = open_session(verified.model, CPU, threads=1)
    session.providers = ["AbacusExecutionProvider", CPU]
    with pytest.raises(BundleRefused, match="this session runs on AbacusExecutionProvider"):
        check_here(verified, session)


def test_a_contract_that_does_not_describe_the_graph_is_refused(bundle, keys):
    verified = verify_bundle(bundle, keys.trusted)
    inputs = [t.model_copy(update={"datatype": "FP64"}) for t in verified.contract.inputs]
    contract = verified.contract.model_copy(update={"inputs": inputs})
    session = open_session(verified.model, CPU, threads=1)
    with pytest.raises(BundleRefused, match="the graph has"):
        check_here(replace(verified, contract=contract), session)
