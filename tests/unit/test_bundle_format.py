import json
import subprocess
from pathlib import Path

import pytest

from slipway.bundle.format import (
    EVIDENCE_FILES,
    PAYLOAD_FILES,
    canonical_json,
    file_digest,
    parse_json,
    parse_version,
    payload_version,
    read_manifest,
    short,
    write_durably,
    write_manifest,
)
from slipway.errors import BundleRefused

VERSION = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*PAYLOAD_FILES, *EVIDENCE_FILES):
        (tmp_path / name).write_text(f"content of {name}")
    return tmp_path


def edit_manifest(folder: Path, **fields: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(canonical_json({**manifest, **fields}))


def test_a_manifest_reads_back_as_it_was_written(folder):
    written = write_manifest(folder, "flights")
    assert read_manifest(folder) == written


def test_the_version_is_what_coreutils_say(folder):
    command = f"sha256sum {' '.join(sorted(PAYLOAD_FILES))} | sha256sum"
    said = subprocess.run(command, cwd=folder, shell=True, capture_output=True, text=True)
    assert payload_version(folder) == said.stdout.split()[0]
    assert write_manifest(folder, "flights").version == payload_version(folder)


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
        ({"format": "slipway-bundle/2"}, "format"),
        ({"more": 1}, "more"),
        ({"files": {}}, "files lacks card.md"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(folder, fields, said):
    write_manifest(folder, "flights")
    edit_manifest(folder, **fields)
    with pytest.raises(BundleRefused, match=said):
        read_manifest(folder)


def test_a_manifest_that_lists_a_path_outside_is_refused(folder):
    files = write_manifest(folder, "flights").model_dump()["files"]
    edit_manifest(folder, files={**files, "../x": files["card.md"]})
    with pytest.raises(BundleRefused, match=r"\.\./x"):
        read_manifest(folder)


def test_a_missing_manifest_is_refused(folder):
    with pytest.raises(BundleRefused, match=r"manifest\.json"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' is given twice"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": -Infinity}', "Infinity"),
        (b"{} {}", "Extra data"),
        (b"[" * 200_000, "nested too deeply"),
        (b" " * 16_000_001, "are read"),
        (b"\xff\xfe{\0}\0", "utf-8"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_parsers_could_disagree_on_is_no_json(text, said):
    with pytest.raises(ValueError, match=said):
        parse_json(text)


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1})


def test_canonical_json_has_no_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_a_version_is_64_lowercase_hex_digits():
    assert parse_version(VERSION) == VERSION
    assert short(VERSION) == VERSION[:12]


@pytest.mark.parametrize("text", ["", "ab", VERSION.upper(), VERSION + "\n", "../" + VERSION])
def test_anything_else_is_no_version(text):
    with pytest.raises(BundleRefused, match="is no version"):
        parse_version(text)


def test_a_durable_write_leaves_nothing_beside_the_file(tmp_path):
    write_durably(tmp_path / "a", b"1")
    write_durably(tmp_path / "a", b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert file_digest(tmp_path / "a").startswith("d4735e3a265e16ee")
