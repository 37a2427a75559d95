"""The files of a bundle: their names, their digests, and the manifest that lists them.

    payload     contract.json gates.json golden.arrow model.onnx   deterministic; gives the version
    evidence    card.md lineage.json proof.json sbom.cdx.json      where it comes from, how it did
    manifest    manifest.json                                      written last: now it is complete
    signature   bundle.sig                                         over all of the above

A bundle is a flat folder of regular files: no folder, link or further file, so there is no
path to escape through and nothing that a digest does not cover.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slipway.errors import BundleRefused

PAYLOAD_FILES = ("contract.json", "gates.json", "golden.arrow", "model.onnx")
EVIDENCE_FILES = ("card.md", "lineage.json", "proof.json", "sbom.cdx.json")
MANIFEST = "manifest.json"
SIGNATURE = "bundle.sig"

MAX_JSON_BYTES = 16_000_000
"""The largest JSON file that is parsed; an SBOM of hundreds of packages takes a tenth of it."""

VERSION = re.compile(r"[0-9a-f]{64}")


class Document(BaseModel):
    """A frozen JSON document that knows all of its keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


D = TypeVar("D", bound=BaseModel)


class ManifestFile(Document):
    """One file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of its bytes, in hex."""
    bytes: int = Field(ge=0)
    """Its size."""


class Manifest(Document):
    """Every payload and evidence file of one bundle."""

    format: Literal["slipway-bundle/1"] = "slipway-bundle/1"
    """The layout of the folder."""
    name: str
    """The model."""
    version: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the payload; see payload_version."""
    files: dict[str, ManifestFile]
    """Exactly the payload and evidence files."""

    @model_validator(mode="after")
    def _lists_exactly_the_files(self) -> "Manifest":
        expected = {*PAYLOAD_FILES, *EVIDENCE_FILES}
        if missing := sorted(expected - set(self.files)):
            raise ValueError(f"files lacks {', '.join(missing)}")
        if extra := sorted(set(self.files) - expected):
            raise ValueError(f"files lists {', '.join(map(repr, extra))}, which no bundle holds")
        digests = {name: self.files[name].sha256 for name in PAYLOAD_FILES}
        if (version := _version(digests)) != self.version:
            raise ValueError(f"version is {self.version}, the payload listed gives {version}")
        return self


def canonical_json(value: Any) -> bytes:
    """Write JSON in the one form that its digest is taken of."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def parse_json(data: bytes) -> Any:
    """Read JSON as RFC 8259 has it: no NaN, no key given twice; raise ValueError otherwise.

    Two parsers that disagree on which of two equal keys counts can be played off against
    each other, so such a document has no meaning here.
    """
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"{len(data):,} bytes, at most {MAX_JSON_BYTES:,} are read")
    try:
        text = data.decode()
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_document(model: type[D], data: bytes) -> D:
    """Read JSON into its model; raise ValueError with every problem on one line."""
    parse_json(data)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(e) for e in error.errors())) from None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def payload_version(folder: Path) -> str:
    """Return the version that a payload has: the digest of its `sha256sum` listing.

    So anyone can check it with coreutils: `sha256sum contract.json gates.json golden.arrow
    model.onnx | sha256sum`.
    """
    return _version({name: file_digest(folder / name) for name in PAYLOAD_FILES})


def parse_version(text: str) -> str:
    """Return a full version, or refuse what is none."""
    if not VERSION.fullmatch(text):
        raise BundleRefused(f"{text!r} is no version: expected 64 lowercase hex digits")
    return text


def short(version: str) -> str:
    """Return the part of a version that people read."""
    return version[:12]


def write_manifest(folder: Path, name: str) -> Manifest:
    """List the payload and evidence files in `manifest.json`; its existence means completeness."""
    paths = [folder / file for file in sorted((*PAYLOAD_FILES, *EVIDENCE_FILES))]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise BundleRefused(f"{folder}: cannot be listed without {', '.join(missing)}")
    files = {p.name: ManifestFile(sha256=file_digest(p), bytes=p.stat().st_size) for p in paths}
    version = _version({file: files[file].sha256 for file in PAYLOAD_FILES})
    manifest = Manifest(name=name, version=version, files=files)
    write_durably(folder / MANIFEST, canonical_json(manifest.model_dump()))
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json`; refuse anything but a complete and consistent one."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleRefused(f"{folder}/{MANIFEST}: {error.strerror}") from None
    return parse_manifest(data)


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest from the bytes that were, or will be, checked."""
    with refused(MANIFEST):
        return parse_document(Manifest, data)


@contextmanager
def refused(name: str) -> Iterator[None]:
    """Turn a ValueError from a file of a bundle into a refusal that names the file."""
    try:
        yield
    except ValueError as error:
        raise BundleRefused(f"{name}: {' '.join(str(error).split())}") from None


def write_durably(path: Path, data: bytes, *, exclusive: bool = False, mode: int = 0o644) -> None:
    """Write a file whole or not at all, and on the disk when this returns.

    With `exclusive`, an existing file stays and FileExistsError is raised.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if exclusive:
            os.link(part, path)  # fails if it exists, where a rename would overwrite
        else:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk: without it a power cut undoes a rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _version(digests: dict[str, str]) -> str:
    listing = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return hashlib.sha256(listing.encode()).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} is given twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _explain(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
