import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slipway import __version__
from slipway.bundle.format import canonical_json
from slipway.bundle.manifest import (
    EVIDENCE_FILES,
    PAYLOAD_FILES,
    payload_digest,
    payload_version,
    read_manifest,
    write_manifest,
)
from slipway.errors import BundleRefused
from tests.bundles import write_first_manifest

VERSION = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*PAYLOAD_FILES, *EVIDENCE_FILES):
        (tmp_path / name).write_text(f"content of {name}")
    return tmp_path


def edit_manifest(folder: Path, **fields: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(canonical_json({**manifest, **fields}))


def listed(folder: Path) -> dict[str, Any]:
    """Write a manifest and return its payload list as it stands there."""
    write_manifest(folder, "flights")
    payload: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())["payload"]
    return payload


def test_a_manifest_reads_back_as_it_was_written(folder):
    written = write_manifest(folder, "flights")
    assert read_manifest(folder) == written


def test_the_version_is_the_digest_of_the_payloads_list(folder):
    digest = hashlib.sha256(
        b"".join(
            f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {role}/{name}\n".encode()
            for name, role in [
                ("contract.json", "contract"),
                ("gates.json", "gates"),
                ("golden.arrow", "golden"),
                ("model.onnx", "graph"),
            ]
        )
    ).hexdigest()
    assert payload_version(folder) == write_manifest(folder, "flights").version == digest


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_version_is_what_the_documented_command_prints(folder):
    version = write_manifest(folder, "flights").version
    command = payload_digest.__doc__.partition("coreutils:")[2].strip()
    said = subprocess.run(command, cwd=folder, shell=True, capture_output=True, text=True)
    assert said.stdout.split() == [version, "-"]


@pytest.mark.parametrize("name", PAYLOAD_FILES)
def test_every_payload_file_is_part_of_the_version(folder, name):
    before = payload_version(folder)
    (folder / name).write_text("other")
    assert payload_version(folder) != before


def test_evidence_is_no_part_of_the_version(folder):
    before = payload_version(folder)
    (folder / "lineage.json").write_text("other")
    assert payload_version(folder) == before


def test_a_manifest_is_not_written_for_an_incomplete_folder(folder):
    (folder / "card.md").unlink()
    with pytest.raises(BundleRefused, match=r"card\.md"):
        write_manifest(folder, "flights")
    assert not (folder / "manifest.json").exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"version": VERSION}, "the payload listed gives"),
        ({"version": "AB" * 32}, "version"),
        ({"format": "slipway-bundle/2"}, "format 'slipway-bundle/2': this host reads 1 and 2"),
        ({"format": 3, "host": "0.9.0"}, r"format 3: .* needs slipway 0\.9\.0, this is"),
        ({"format": True}, "format True"),
        ({"more": 1}, "more"),
        ({"evidence": {}}, "evidence lacks card.md"),
        ({"payload": {}}, "payload has the roles"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(folder, fields, said):
    write_manifest(folder, "flights")
    edit_manifest(folder, **fields)
    with pytest.raises(BundleRefused, match=said):
        read_manifest(folder)


def test_a_manifest_that_lists_a_path_outside_is_refused(folder):
    payload = listed(folder)
    edit_manifest(folder, payload={**payload, "../x": payload.pop("model.onnx")})
    with pytest.raises(BundleRefused, match=r"called '\.\./x'"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["bundle.sig", "manifest.json", "card.md", ".hidden", "A", ""])
def test_a_payload_file_has_a_plain_name_of_its_own(folder, name):
    payload = listed(folder)
    edit_manifest(folder, payload={**payload, name: payload.pop("model.onnx")})
    with pytest.raises(BundleRefused, match="no payload file may be called"):
        read_manifest(folder)


def test_a_role_that_is_not_known_is_refused_with_the_version_that_knows_it(folder):
    payload = listed(folder)
    tokenizer = {**payload["model.onnx"], "role": "tokenizer"}
    edit_manifest(folder, host="0.7.0", payload={**payload, "tokenizer.json": tokenizer})
    with pytest.raises(BundleRefused) as refused:
        read_manifest(folder)
    assert str(refused.value) == (
        "manifest.json: tokenizer.json has the role 'tokenizer', which this host does not know;"
        f" the bundle needs slipway 0.7.0, this is {__version__}"
    )


@pytest.mark.parametrize("role", ["golden", "Graph", "weights", "../graph"])
def test_each_role_is_there_once(folder, role):
    payload = listed(folder)
    edit_manifest(
        folder, payload={**payload, "model.onnx": {**payload["model.onnx"], "role": role}}
    )
    with pytest.raises(BundleRefused, match="role"):
        read_manifest(folder)


def test_another_role_is_another_version(folder):
    payload = write_manifest(folder, "flights").payload
    turned = {**payload, "gates.json": payload["gates.json"].model_copy(update={"role": "x"})}
    assert payload_digest(turned) != payload_digest(payload)


def test_a_bundle_of_the_first_format_is_read_with_the_roles_its_files_had(folder):
    written = write_first_manifest(folder, "x")
    manifest = read_manifest(folder)
    assert (manifest.format, manifest.version) == (1, written["version"])
    assert manifest.file_of("graph") == "model.onnx"
    assert {n: f.sha256 for n, f in manifest.files.items()} == {
        n: f["sha256"] for n, f in written["files"].items()
    }


@pytest.mark.parametrize("change", [{"files": {}}, {"version": VERSION}, {"payload": {}}])
def test_a_manifest_of_the_first_format_is_checked_as_before(folder, change):
    write_first_manifest(folder, "x")
    edit_manifest(folder, **change)
    with pytest.raises(BundleRefused, match=r"files lacks|payload listed gives|payload"):
        read_manifest(folder)


def test_a_missing_manifest_is_refused(folder):
    with pytest.raises(BundleRefused, match=r"manifest\.json"):
        read_manifest(folder)
