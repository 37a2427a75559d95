"""The manifest: which files a bundle has, what each payload file is for, and the version.

    payload     contract.json gates.json golden.arrow model.onnx   deterministic; gives the version
    evidence    card.md lineage.json proof.json sbom.cdx.json      where it comes from, how it did
    manifest    manifest.json                                      written last: now it is complete
    signature   bundle.sig                                         over all of the above

A bundle is a flat folder of regular files: no folder, link or further file, so there is no
path to escape through and nothing that a digest does not cover.

Format 2 gives every payload file a role, and the version is the digest over that list. A host
loads a bundle only if it knows every role in it, so what later bundles need (a tokenizer, an
index, weights beside the graph) comes without another format; `host` says which slipway knows
them. Format 1 had four fixed files without roles; its bundles are read as they are.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from slipway import __version__
from slipway.bundle.format import (
    Document,
    canonical_json,
    file_digest,
    parse_document,
    parse_json,
    refused,
    write_durably,
)
from slipway.errors import BundleRefused

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "bundle.sig"

GRAPH: Final = "graph"
GOLDEN: Final = "golden"
CONTRACT: Final = "contract"
GATES: Final = "gates"

ROLES: Final = {
    "contract.json": CONTRACT,
    "gates.json": GATES,
    "golden.arrow": GOLDEN,
    "model.onnx": GRAPH,
}
"""What each payload file that is written today is for. A host knows these, each exactly once."""

PAYLOAD_FILES: Final = tuple(ROLES)
EVIDENCE_FILES: Final = ("card.md", "lineage.json", "proof.json", "sbom.cdx.json")

FORMAT: Final = 2
HOST: Final = "0.2.0"
"""The oldest slipway whose hosts read this format with all roles that are written today."""

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What a payload file may be called."""

FIRST: Final = "slipway-bundle/1"
"""How the first format called itself."""


class ManifestFile(Document):
    """One file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of its bytes, in hex."""
    bytes: int = Field(ge=0)
    """Its size."""


class PayloadFile(ManifestFile):
    """One file that the version is made of."""

    role: str = Field(pattern=r"^[a-z][a-z-]{0,31}$")
    """What it is for."""


@dataclass(frozen=True)
class Manifest:
    """Every payload and evidence file of one bundle, whichever format listed them."""

    format: int
    name: str
    """The model."""
    version: str
    """The digest over the payload's list; see payload_version."""
    payload: Mapping[str, PayloadFile]
    evidence: Mapping[str, ManifestFile]

    @property
    def files(self) -> dict[str, ManifestFile]:
        """All files that are listed, by name."""
        return {**self.payload, **self.evidence}

    def file_of(self, role: str) -> str:
        """Name the file of a role that every bundle has."""
        return next(name for name, file in self.payload.items() if file.role == role)


class _Second(Document):
    """`manifest.json` in format 2."""

    format: Literal[2]
    host: str
    """The oldest slipway whose hosts know every role in here."""
    name: str
    version: str = Field(pattern=r"^[0-9a-f]{64}$")
    payload: dict[str, PayloadFile]
    evidence: dict[str, ManifestFile]

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if strange := [n for n, f in self.payload.items() if f.role not in ROLES.values()]:
            listing = ", ".join(
                f"{name} has the role {self.payload[name].role!r}" for name in strange
            )
            raise ValueError(f"{listing}, which this host does not know; {_needs(self.host)}")
        if odd := [n for n in self.payload if not NAME.fullmatch(n) or n in _RESERVED]:
            raise ValueError(f"no payload file may be called {', '.join(map(repr, sorted(odd)))}")
        roles = sorted(file.role for file in self.payload.values())
        if roles != sorted(ROLES.values()):
            raise ValueError(f"payload has the roles {roles}, expected {sorted(ROLES.values())}")
        _require("evidence", self.evidence, EVIDENCE_FILES)
        _require_version(self.version, payload_digest(self.payload))
        return self

    def read(self) -> Manifest:
        return Manifest(
            2, self.name, version=self.version, payload=self.payload, evidence=self.evidence
        )


class _First(Document):
    """`manifest.json` in format 1."""

    format: Literal["slipway-bundle/1"]
    name: str
    version: str = Field(pattern=r"^[0-9a-f]{64}$")
    files: dict[str, ManifestFile]

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        _require("files", self.files, (*PAYLOAD_FILES, *EVIDENCE_FILES))
        lines = (f"{self.files[name].sha256}  {name}\n" for name in sorted(PAYLOAD_FILES))
        _require_version(self.version, _digest(lines))
        return self

    def read(self) -> Manifest:
        payload = {
            name: PayloadFile(role=role, **self.files[name].model_dump())
            for name, role in ROLES.items()
        }
        evidence = {name: self.files[name] for name in EVIDENCE_FILES}
        return Manifest(1, self.name, version=self.version, payload=payload, evidence=evidence)


_RESERVED: Final = frozenset((*EVIDENCE_FILES, MANIFEST, SIGNATURE))


def payload_digest(payload: Mapping[str, PayloadFile]) -> str:
    """Return the version that a list of payload files has.

    The SHA-256 of one line per file, in the order of names: its digest, two spaces, its role,
    a slash, its name. So anyone can check it with jq and coreutils:

        jq -r '.payload | to_entries | sort_by(.key)[]
               | "\\(.value.sha256)  \\(.value.role)/\\(.key)"' manifest.json | sha256sum
    """
    return _digest(f"{payload[n].sha256}  {payload[n].role}/{n}\n" for n in sorted(payload))


def payload_version(folder: Path) -> str:
    """Return the version that the payload in a folder has."""
    return payload_digest(_list_payload(folder))


def write_manifest(folder: Path, name: str) -> Manifest:
    """List the payload and evidence files in `manifest.json`; its existence means completeness."""
    wanted = (*PAYLOAD_FILES, *EVIDENCE_FILES)
    if missing := [file for file in wanted if not (folder / file).is_file()]:
        raise BundleRefused(f"{folder}: cannot be listed without {', '.join(sorted(missing))}")
    payload = _list_payload(folder)
    evidence = {n: ManifestFile(**_listed(folder / n)) for n in EVIDENCE_FILES}
    document = _Second(
        format=FORMAT,
        host=HOST,
        name=name,
        version=payload_digest(payload),
        payload=payload,
        evidence=evidence,
    )
    write_durably(folder / MANIFEST, canonical_json(document.model_dump()))
    return document.read()


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
        stated = parse_json(data)
        kind = stated.get("format") if isinstance(stated, dict) else None
        if kind == FIRST:
            return parse_document(_First, data).read()
        if kind != FORMAT or isinstance(kind, bool):
            needed = stated.get("host") if isinstance(stated, dict) else None
            raise ValueError(f"format {kind!r}: this host reads 1 and {FORMAT}; {_needs(needed)}")
        return parse_document(_Second, data).read()


def _needs(host: object) -> str:
    newer = host if isinstance(host, str) and len(host) <= 32 else "a newer version"
    return f"the bundle needs slipway {newer}, this is {__version__}"


def _list_payload(folder: Path) -> dict[str, PayloadFile]:
    return {n: PayloadFile(role=role, **_listed(folder / n)) for n, role in ROLES.items()}


def _listed(path: Path) -> dict[str, Any]:
    return {"sha256": file_digest(path), "bytes": path.stat().st_size}


def _require(where: str, listed: Iterable[str], expected: Iterable[str]) -> None:
    if missing := sorted(set(expected) - set(listed)):
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if extra := sorted(set(listed) - set(expected)):
        raise ValueError(f"{where} lists {', '.join(map(repr, extra))}, which no bundle holds")


def _require_version(stated: str, listed: str) -> None:
    if stated != listed:
        raise ValueError(f"version is {stated}, the payload listed gives {listed}")


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()
