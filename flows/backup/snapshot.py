"""What one backup holds: `snapshots/<UTC time>-<digest>.json`.

It is written after every object that it names, so a snapshot that exists is complete. Its name
carries the beginning of its own SHA-256, and it the SHA-256 of everything else.
"""

import hashlib
import re
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from slipway.bundle.format import Document, canonical_json
from slipway.errors import SlipwayError

NAME = re.compile(r"(\d{8}T\d{9}Z)-([0-9a-f]{16})\.json")
MARK = 16
"""Hex digits of a snapshot's SHA-256 in its name."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Kind = Literal["cache", "run-cache", "store", "host", "key", "run"]


class Piece(Document):
    """One object: any bytes, named by their SHA-256."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


class KeptFile(Piece):
    """One file of the project."""

    path: str
    """Relative to the project, with `/`."""
    kind: Kind
    mode: Annotated[int, Field(ge=0, le=0o7777)]

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        return inside(path)


class Repository(Piece):
    """The git repository, as a bundle of all refs."""

    refs: Sha256
    """Digest of every ref: the same refs need no bundle of their own."""
    commit: str
    branch: str | None
    """What was checked out; None: the commit by itself."""
    prefix: str
    """Where the project lies in the repository; empty: at its top."""
    remotes: dict[str, str]
    """The remotes, without credentials."""


class Secrets(Piece):
    """An encrypted tar archive; the digest is that of the encrypted bytes."""

    files: int


class BackupSnapshot(Document):
    """Everything that a backup holds at one time."""

    format: Literal[1]
    at: str
    """When it was begun, ISO 8601: what happened later may not be in it."""
    slipway: str
    """The version of this program that wrote it."""
    project: str
    """The name of the project's folder."""
    repository: Repository
    files: list[KeptFile]
    folders: dict[str, int]
    """Modes of the folders that are not as usual."""
    secrets: Secrets | None
    notes: list[str]
    """What is not in it, in words."""

    @field_validator("folders")
    @classmethod
    def _stay_inside(cls, folders: dict[str, int]) -> dict[str, int]:
        return {inside(path): mode for path, mode in folders.items()}

    @property
    def pieces(self) -> dict[str, Piece]:
        """Every object that it needs, once each, by what to call it."""
        named: dict[str, Piece] = {"the git repository": self.repository}
        named |= {"the secrets": self.secrets} if self.secrets else {}
        named |= {file.path: file for file in self.files}
        return named


def inside(path: str) -> str:
    """Return a path that stays inside of the project; a backup that was tampered with may not.

    `.git` is no file of ours either: a hook there would be run.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0] == ".git" or "\0" in path:
        raise ValueError(f"leads out of the project: {path!r}")
    return path


def encode(snapshot: BackupSnapshot) -> tuple[str, bytes]:
    """Return a snapshot's name and bytes; names sort by time, to the millisecond."""
    data = canonical_json(snapshot.model_dump())
    begun = datetime.fromisoformat(snapshot.at).astimezone(UTC)
    time = f"{begun:%Y%m%dT%H%M%S}{begun.microsecond // 1000:03}Z"
    return f"{time}-{_mark(data)}.json", data


def decode(name: str, data: bytes) -> BackupSnapshot:
    """Read a snapshot, or say that its bytes are not those that were written."""
    known = NAME.fullmatch(name)
    if known is None or known[2] != _mark(data):
        raise SlipwayError(
            f"snapshot {name} is damaged: its SHA-256 does not begin as its name says; choose"
            " another one: slipway restore URL --list"
        )
    try:
        return BackupSnapshot.model_validate_json(data)
    except ValidationError as error:
        reason = " ".join(str(error.errors()[0]["msg"]).split())
        raise SlipwayError(
            f"snapshot {name} cannot be read: {reason}; a newer slipway may have written it"
        ) from None


def _mark(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:MARK]
